"""inference.GRPCInferenceService: the Open Inference Protocol, version 2."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from export.artifact.manifest import ROLLOUTS, SLIDING, Manifest, Tensor
from server.errors import Draining, InvalidRequest, ModelNotFound, NotReady, shown
from server.pb import open_inference_pb2 as pb
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from server.predictor import FieldNames, Predictor, Question
from server.tensors import LOWER, NEXT, SERIES, SHOWN, TIME_SECONDS, UPPER, WINDOW
from server.transport.arrays import to_raw
from server.transport.calls import Calls, Context, Labels, deadline_of
from server.transport.infer_tensors import DATATYPES, FP32, FUTURE, Datatype, read_inputs

PLATFORM = "onnxruntime_onnx"
_FIELDS = FieldNames(
    windows="inputs[window]",
    horizon="parameters[horizon]",
    future="inputs[future]",
    time_seconds="inputs[time_seconds]",
    series="inputs[series]",
    intervals="outputs",
    rollout="parameters[rollout]",
)

try:
    SERVER_VERSION = version("nextvalue")
except PackageNotFoundError:  # run from a source tree that was never installed
    SERVER_VERSION = "0+unknown"


class OpenInference(GRPCInferenceServiceServicer):
    """Every model as an input `window` FP32 [-1, T, F] and an output `next` FP32 [-1, horizon], and what else it has.

    A model with a calendar takes `time_seconds` INT64 [-1, T], one that is scaled by series `series` INT64 [-1, 1]: the
    number of the series, its place in the artifact's series.json, where any other number is an unknown one. A model
    with intervals gives `lower` and `upper` FP32 [-1, horizon, L] at all its levels.
    """

    def __init__(self, predictor: Predictor, calls: Calls) -> None:
        self._predictor = predictor
        self._calls = calls

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:  # noqa: ARG002 (no fields)
        """The process answers, so it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:  # noqa: ARG002 (no fields)
        """The first scan is done, a model serves, and the server is not draining."""
        return pb.ServerReadyResponse(ready=self._predictor.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:  # noqa: ARG002 (always OK)
        """Whether the model answers; an unknown one does not, and none does while the server drains."""
        try:
            self._predictor.resolve(request.name, request.version)
        except (ModelNotFound, NotReady, Draining):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:  # noqa: ARG002 (no fields)
        """Name and version."""
        return pb.ServerMetadataResponse(name="nextvalue", version=SERVER_VERSION)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs."""
        labels = self._calls.labels(request.name)
        return await self._calls.answer("ModelMetadata", context, labels, self._metadata(request, labels))

    async def _metadata(self, request: pb.ModelMetadataRequest, labels: Labels) -> pb.ModelMetadataResponse:
        served = self._predictor.resolve(request.name, request.version)
        labels.version = str(served.version)
        graph = served.manifest.graphs[WINDOW]
        return pb.ModelMetadataResponse(
            name=served.model,
            versions=[labels.version],
            platform=PLATFORM,
            inputs=[_metadata_of(tensor, DATATYPES[tensor.name]) for tensor in graph.inputs],
            outputs=[_metadata_of(tensor, FP32) for tensor in graph.outputs if tensor.name in SHOWN],
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Predict."""
        labels = self._calls.labels(request.model_name)
        return await self._calls.answer("ModelInfer", context, labels, self._infer(request, context, labels))

    async def _infer(self, request: pb.ModelInferRequest, context: Context, labels: Labels) -> pb.ModelInferResponse:
        served = self._predictor.resolve(request.model_name, request.model_version)
        labels.version = str(served.version)
        arrays = read_inputs(request)
        # Without one, the outputs have the shapes that the metadata says.
        horizon = _horizon(request.parameters, served.manifest.direct_horizon)
        names = _outputs(request, served.manifest, horizon)
        question = Question(
            windows=arrays[WINDOW],
            horizon=horizon,
            future=arrays.get(FUTURE),
            time_seconds=arrays.get(TIME_SECONDS),
            series=arrays.get(SERIES),
            levels=() if LOWER in names or UPPER in names else None,
            rollout=_rollout(request.parameters),
        )
        answer = await self._predictor.predict(served, question, deadline=deadline_of(context), fields=_FIELDS)
        given = {NEXT: answer.predictions_NH}
        if answer.ends is not None:
            given |= {LOWER: answer.ends.lower, UPPER: answer.ends.upper}
        tensor = pb.ModelInferResponse.InferOutputTensor
        return pb.ModelInferResponse(
            model_name=served.model,
            model_version=labels.version,
            id=request.id,
            outputs=[tensor(name=name, datatype=FP32.name, shape=given[name].shape) for name in names],
            raw_output_contents=[to_raw(given[name]) for name in names],
        )


def _metadata_of(tensor: Tensor, datatype: Datatype) -> pb.ModelMetadataResponse.TensorMetadata:
    shape = [-1 if size == "batch" else size for size in tensor.shape]
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=datatype.name, shape=shape)


def _outputs(request: pb.ModelInferRequest, manifest: Manifest, horizon: int) -> list[str]:
    """The outputs to send, in the order asked for. Without any asked for, all that the model has at this horizon."""
    known = [tensor.name for tensor in manifest.graphs[WINDOW].outputs if tensor.name in SHOWN]
    if not request.outputs:
        return known if horizon <= manifest.direct_horizon else [NEXT]
    for output in request.outputs:
        if output.name not in known:
            listed = f"output is {NEXT!r}" if known == [NEXT] else f"outputs are {', '.join(map(repr, known))}"
            raise InvalidRequest("outputs[].name", shown(output.name), f"the model's {listed}")
    return list(dict.fromkeys(output.name for output in request.outputs))


def _rollout(parameters: Mapping[str, pb.InferParameter]) -> str:
    """The parameter `rollout`, or sliding."""
    if "rollout" not in parameters:
        return SLIDING
    value = parameters["rollout"].string_param
    if value not in ROLLOUTS:
        raise InvalidRequest("parameters[rollout]", shown(value), f"it must be a string_param, one of {list(ROLLOUTS)}")
    return value


def _horizon(parameters: Mapping[str, pb.InferParameter], default: int = 1) -> int:
    """The parameter `horizon`, or the default."""
    if "horizon" not in parameters:
        return default
    parameter = parameters["horizon"]
    choice = parameter.WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidRequest("parameters[horizon]", choice or "empty", "it must be an int64_param")
    return parameter.int64_param if choice == "int64_param" else parameter.uint64_param
