"""inference.GRPCInferenceService: the Open Inference Protocol, version 2."""

from collections.abc import AsyncIterator
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version

import grpc

from export.artifact.manifest import Manifest, Tensor
from server.errors import Draining, InvalidRequest, ModelNotFound, NotReady, shown
from server.pb import open_inference_pb2 as pb
from server.pb.open_inference_pb2_grpc import GRPCInferenceServiceServicer
from server.predictor import FieldNames, Predictor, Question
from server.tensors import LOWER, NEXT, SHOWN, TIME_SECONDS, UPPER, WINDOW
from server.transport.arrays import to_raw
from server.transport.calls import Calls, Context, Failure, Labels, begins_at_once, deadline_of
from server.transport.infer_parameters import check_outputs, horizon_of, rollout_from
from server.transport.infer_tensors import DATATYPES, FP32, FUTURE, Datatype, read_inputs, series_of
from server.transport.model_config import PLATFORM, config_of
from server.transport.model_repository import ModelRepository
from server.transport.model_statistics import statistics_of
from server.transport.streams import Streams
from server.transport.unanswerable import Unanswerable
from server.versions import Model

EXTENSIONS = ("model_configuration", "parameters", "statistics")
ADMIN_EXTENSIONS = ("model_repository", "model_repository(unload_dependents)")
# Tools that send it want a stream's first error as the status of the stream, which ends with it.
STRICT_STREAM = ("triton_grpc_error", "true")
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
    number of the series, its place in the artifact's series.json, where any other number is an unknown one; or its id,
    as BYTES. A model
    with intervals gives `lower` and `upper` FP32 [-1, horizon, L] at all its levels.
    """

    def __init__(
        self, predictor: Predictor, calls: Calls, repository: ModelRepository, *, max_batch_windows: int
    ) -> None:
        self._predictor = predictor
        self._calls = calls
        self._repository = repository
        self._max_batch_windows = max_batch_windows
        self.streams = Streams()

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
        """Name, version, and what is offered beyond the protocol's core."""
        extensions = sorted(EXTENSIONS + (ADMIN_EXTENSIONS if self._repository.admin else ()))
        return pb.ServerMetadataResponse(name="nextvalue", version=SERVER_VERSION, extensions=extensions)

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
            versions=[labels.version] if request.version else self._serving(served.model),
            platform=PLATFORM,
            inputs=[_metadata_of(tensor, DATATYPES[tensor.name]) for tensor in graph.inputs],
            outputs=[_metadata_of(tensor, FP32) for tensor in graph.outputs if tensor.name in SHOWN],
        )

    def _serving(self, model: str) -> list[str]:
        """The versions of a model that a call may name."""
        return [str(each.number) for each in self._predictor.repository.model(model).serving()]

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """How a model is run."""
        labels = self._calls.labels(request.name)
        return await self._calls.answer("ModelConfig", context, labels, self._config(request, labels))

    async def _config(self, request: pb.ModelConfigRequest, labels: Labels) -> pb.ModelConfigResponse:
        served = self._predictor.resolve(request.name, request.version)
        labels.version = str(served.version)
        versions = map(int, self._serving(served.model))
        return pb.ModelConfigResponse(
            config=config_of(served, max_batch_windows=self._max_batch_windows, versions=versions)
        )

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: Context) -> pb.ModelStatisticsResponse:
        """What models have answered since they were loaded."""
        labels = self._calls.labels(request.name) if request.name else Labels(model="")
        return await self._calls.answer("ModelStatistics", context, labels, self._statistics(request))

    async def _statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        repository = self._predictor.repository
        if request.version and not request.name:
            raise InvalidRequest("version", shown(request.version), "without a name it must be empty")
        models: list[Model] = [repository.model(request.name)] if request.name else list(repository.models())
        number = repository.resolve(request.name, request.version).version if request.version else None
        return pb.ModelStatisticsResponse(
            model_stats=[
                statistics_of(each) for model in models for each in model.serving() if number in (None, each.number)
            ]
        )

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """What there is."""
        return await self._calls.answer("RepositoryIndex", context, Labels(model=""), self._repository.index(request))

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Serve what a model's folder has now."""
        labels = self._calls.labels(request.model_name)
        return await self._calls.answer("RepositoryModelLoad", context, labels, self._repository.load(request))

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Let a model go."""
        labels = self._calls.labels(request.model_name)
        return await self._calls.answer("RepositoryModelUnload", context, labels, self._repository.unload(request))

    async def ModelStreamInfer(  # type: ignore[override]  # the stub knows generators; here a stream's end is told apart
        self, requests: AsyncIterator[pb.ModelInferRequest | Unanswerable], context: Context
    ) -> None:
        """Predict, request by request. One that fails has its own response; the stream goes on."""
        metadata = context.invocation_metadata() or ()
        strict = any((key, value) == STRICT_STREAM for key, value in metadata)
        try:
            await self.streams.carry(
                requests, partial(self._answer_in_stream, context), partial(_write, context, strict=strict)
            )
        except Draining as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def _answer_in_stream(
        self, context: Context, request: pb.ModelInferRequest | Unanswerable
    ) -> tuple[str, pb.ModelInferResponse | Failure]:
        """The request's id and its answer; each is counted like a call of its own."""
        if isinstance(request, Unanswerable):
            return request.id, await self._calls.settle("ModelStreamInfer", context, Labels(), request.refuse())
        labels = self._calls.labels(request.model_name)
        work = self._infer(request, context, labels)
        return request.id, await self._calls.settle("ModelStreamInfer", context, labels, work)

    @begins_at_once
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Predict."""
        labels = self._calls.labels(request.model_name)
        return await self._calls.answer("ModelInfer", context, labels, self._infer(request, context, labels))

    async def _infer(self, request: pb.ModelInferRequest, context: Context, labels: Labels) -> pb.ModelInferResponse:
        served = self._predictor.resolve(request.model_name, request.model_version)
        labels.version, labels.statistics = str(served.version), served.statistics
        arrays = read_inputs(request)
        # Without one, the outputs have the shapes that the metadata says.
        horizon = horizon_of(request.parameters, served.manifest.direct_horizon)
        names = _outputs(request, served.manifest, horizon)
        question = Question(
            windows=arrays[WINDOW],
            horizon=horizon,
            future=arrays.get(FUTURE),
            time_seconds=arrays.get(TIME_SECONDS),
            series=series_of(arrays),
            levels=() if LOWER in names or UPPER in names else None,
            rollout=rollout_from(request.parameters),
        )
        answer = await self._predictor.predict(served, question, deadline=deadline_of(context), fields=_FIELDS)
        given = {NEXT: answer.predictions_NH}
        if answer.ends is not None:
            given |= {LOWER: answer.ends.lower, UPPER: answer.ends.upper}
        response = pb.ModelInferResponse(id=request.id, raw_output_contents=[to_raw(given[name]) for name in names])
        response.MergeFrom(_named(served.model, labels.version, tuple((name, given[name].shape) for name in names)))
        return response


def _metadata_of(tensor: Tensor, datatype: Datatype) -> pb.ModelMetadataResponse.TensorMetadata:
    shape = [-1 if size == "batch" else size for size in tensor.shape]
    return pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=datatype.name, shape=shape)


@lru_cache(maxsize=1024)
def _named(model: str, version: str, outputs: tuple[tuple[str, tuple[int, ...]], ...]) -> pb.ModelInferResponse:
    """The part of a response that is the same for all with such outputs: making it takes longer than copying it."""
    tensor = pb.ModelInferResponse.InferOutputTensor
    return pb.ModelInferResponse(
        model_name=model,
        model_version=version,
        outputs=[tensor(name=name, datatype=FP32.name, shape=shape) for name, shape in outputs],
    )


def _outputs(request: pb.ModelInferRequest, manifest: Manifest, horizon: int) -> list[str]:
    """The outputs to send, in the order asked for. Without any asked for, all that the model has at this horizon."""
    known = [tensor.name for tensor in manifest.graphs[WINDOW].outputs if tensor.name in SHOWN]
    if not request.outputs:
        return known if horizon <= manifest.direct_horizon else [NEXT]
    check_outputs(request.outputs)
    for output in request.outputs:
        if output.name not in known:
            listed = f"output is {NEXT!r}" if known == [NEXT] else f"outputs are {', '.join(map(repr, known))}"
            raise InvalidRequest("outputs[].name", shown(output.name), f"the model's {listed}")
    return list(dict.fromkeys(output.name for output in request.outputs))


async def _write(context: Context, answer: tuple[str, pb.ModelInferResponse | Failure], *, strict: bool) -> None:
    """Send one response of a stream, or end it with the failure's status where that is `strict`."""
    request_id, settled = answer
    if isinstance(settled, Failure):
        if strict:
            await context.abort(settled.code, settled.details, settled.trailers)
        response = pb.ModelStreamInferResponse(error_message=settled.details)
        response.infer_response.id = request_id
        await context.write(response)
    else:
        await context.write(pb.ModelStreamInferResponse(infer_response=settled))
