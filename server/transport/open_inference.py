"""inference.GRPCInferenceService: the Open Inference Protocol, version 2."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from server.errors import Draining, InvalidRequest, ModelNotFound, NotReady, shown
from server.pb import open_inference_pb2 as pb
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from server.predictor import FieldNames, Predictor
from server.transport.arrays import checked_shape, from_raw, from_values, to_raw
from server.transport.calls import Calls, Context, Labels, deadline_of

PLATFORM = "onnxruntime_onnx"
FP32_CONTENTS = pb.InferTensorContents.FP32_CONTENTS_FIELD_NUMBER
WINDOW, FUTURE, OUTPUT = "window", "future", "next"
_FIELDS = FieldNames(windows="inputs[window]", horizon="parameters[horizon]", future="inputs[future]")

try:
    SERVER_VERSION = version("nextvalue")
except PackageNotFoundError:  # run from a source tree that was never installed
    SERVER_VERSION = "0+unknown"


class OpenInference(GRPCInferenceServiceServicer):
    """Every model as one input `window` FP32 [-1, T, F] and one output `next` FP32 [-1, horizon]."""

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
        tensor = pb.ModelMetadataResponse.TensorMetadata
        manifest = served.manifest
        return pb.ModelMetadataResponse(
            name=served.model,
            versions=[labels.version],
            platform=PLATFORM,
            inputs=[tensor(name=WINDOW, datatype="FP32", shape=[-1, manifest.window, len(manifest.features)])],
            outputs=[tensor(name=OUTPUT, datatype="FP32", shape=[-1, manifest.direct_horizon])],
        )

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Predict."""
        labels = self._calls.labels(request.model_name)
        return await self._calls.answer("ModelInfer", context, labels, self._infer(request, context, labels))

    async def _infer(self, request: pb.ModelInferRequest, context: Context, labels: Labels) -> pb.ModelInferResponse:
        served = self._predictor.resolve(request.model_name, request.model_version)
        labels.version = str(served.version)
        arrays = _inputs(request)
        for output in request.outputs:
            if output.name != OUTPUT:
                raise InvalidRequest("outputs[].name", shown(output.name), f"the model's output is {OUTPUT!r}")
        answer = await self._predictor.predict(
            served,
            arrays[WINDOW],
            horizon=_horizon(request.parameters),
            future=arrays.get(FUTURE),
            deadline=deadline_of(context),
            fields=_FIELDS,
        )
        predictions = answer.predictions_NH
        return pb.ModelInferResponse(
            model_name=served.model,
            model_version=labels.version,
            id=request.id,
            outputs=[pb.ModelInferResponse.InferOutputTensor(name=OUTPUT, datatype="FP32", shape=predictions.shape)],
            raw_output_contents=[to_raw(predictions)],
        )


def _horizon(parameters: Mapping[str, pb.InferParameter]) -> int:
    """The parameter `horizon`; 1 without it."""
    if "horizon" not in parameters:
        return 1
    parameter = parameters["horizon"]
    choice = parameter.WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidRequest("parameters[horizon]", choice or "empty", "it must be an int64_param")
    return parameter.int64_param if choice == "int64_param" else parameter.uint64_param


def _inputs(request: pb.ModelInferRequest) -> dict[str, NDArray[np.float32]]:
    """The named input arrays. Raises InvalidRequest on whatever is wrong with them."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(
            "raw_input_contents",
            f"{len(raw)} entries",
            f"there are {len(request.inputs)} inputs; all are raw or none is",
        )
    arrays: dict[str, NDArray[np.float32]] = {}
    for k, tensor in enumerate(request.inputs):
        field = f"inputs[{tensor.name}]"
        if tensor.name not in (WINDOW, FUTURE) or tensor.name in arrays:
            raise InvalidRequest(f"inputs[{k}].name", shown(tensor.name), f"expected {WINDOW!r} (and {FUTURE!r}) once")
        if tensor.datatype != "FP32":
            raise InvalidRequest(f"{field}.datatype", shown(tensor.datatype), "it must be 'FP32'")
        shape = checked_shape(field, tensor.shape)
        if raw:
            if tensor.HasField("contents"):
                raise InvalidRequest(f"{field}.contents", "filled", "it must be empty beside raw_input_contents")
            arrays[tensor.name] = from_raw(f"raw_input_contents[{k}]", raw[k], shape)
        else:
            for filled, _ in tensor.contents.ListFields():
                if filled.name != "fp32_contents":
                    raise InvalidRequest(f"{field}.contents.{filled.name}", "filled", "FP32 is in fp32_contents")
            arrays[tensor.name] = from_values(f"{field}.contents.fp32_contents", tensor.contents, FP32_CONTENTS, shape)
    if WINDOW not in arrays:
        raise InvalidRequest("inputs", "without 'window'", "the input 'window' is required")
    return arrays
