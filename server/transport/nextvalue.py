"""nextvalue.v1.NextValue."""

from export.artifact.manifest import CARRY, SLIDING, Manifest
from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueServicer
from server.errors import InvalidRequest
from server.predictor import FieldNames, Predictor, Question
from server.transport.arrays import from_message, to_message
from server.transport.calls import Calls, Context, Labels, begins_at_once, deadline_of
from server.versions import Model, State, Version

_FIELDS = FieldNames(
    windows="windows",
    horizon="horizon",
    future="future",
    time_seconds="time_seconds",
    series="series",
    intervals="intervals",
    rollout="rollout",
)

_ROLLOUTS = {pb.ROLLOUT_UNSPECIFIED: SLIDING, pb.ROLLOUT_SLIDING: SLIDING, pb.ROLLOUT_CARRY: CARRY}

_STATES = {
    State.LOADING: pb.ModelVersion.STATE_LOADING,
    State.SERVING: pb.ModelVersion.STATE_SERVING,
    State.FAILED: pb.ModelVersion.STATE_FAILED,
    State.STANDBY: pb.ModelVersion.STATE_STANDBY,
    State.UNLOADING: pb.ModelVersion.STATE_STANDBY,
}


class NextValue(NextValueServicer):
    """The service's own protocol."""

    def __init__(self, predictor: Predictor, calls: Calls) -> None:
        self._predictor = predictor
        self._calls = calls

    @begins_at_once
    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Predictions for many windows of one model."""
        labels = self._calls.labels(request.model)
        return await self._calls.answer("Predict", context, labels, self._predict(request, context, labels))

    async def _predict(self, request: pb.PredictRequest, context: Context, labels: Labels) -> pb.PredictResponse:
        served = self._predictor.resolve(request.model, request.version)
        labels.version, labels.statistics = str(served.version), served.statistics
        question = Question(
            windows=from_message("windows", request.windows),
            horizon=request.horizon or 1,
            future=from_message("future", request.future) if request.HasField("future") else None,
            time_seconds=from_message("time_seconds", request.time_seconds)
            if request.HasField("time_seconds")
            else None,
            series=request.series or None,
            levels=request.intervals.levels if request.HasField("intervals") else None,
            rollout=_rollout(request.rollout),
        )
        answer = await self._predictor.predict(served, question, deadline=deadline_of(context), fields=_FIELDS)
        raw = bool(request.windows.raw_values)
        response = pb.PredictResponse(
            model=served.model,
            version=served.version,
            predictions=to_message(answer.predictions_NH, raw=raw),
            queue_time_ns=round(answer.queue_seconds * 1e9),
            run_time_ns=round(answer.run_seconds * 1e9),
        )
        if answer.num_unknown_series:
            response.num_unknown_series = answer.num_unknown_series
        if answer.ends is not None:
            response.levels.extend(answer.levels)
            response.lower.CopyFrom(to_message(answer.ends.lower, raw=raw))
            response.upper.CopyFrom(to_message(answer.ends.upper, raw=raw))
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002 (no fields)
        """Every model and version, with reasons."""
        return await self._calls.answer("ListModels", context, Labels(model=""), self._list_models())

    async def _list_models(self) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[self._describe(model) for model in self._predictor.repository.models()])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:
        """One model."""
        labels = self._calls.labels(request.model)
        return await self._calls.answer("GetModel", context, labels, self._get_model(request))

    async def _get_model(self, request: pb.GetModelRequest) -> pb.Model:
        return self._describe(self._predictor.repository.model(request.model))

    def _describe(self, model: Model) -> pb.Model:
        default = model.default()
        return pb.Model(
            name=model.name,
            versions=[self._describe_version(version, model.labels_of(version)) for version in model.versions],
            default_version=default.number if default else 0,
        )

    def _describe_version(self, version: Version, labels: list[str]) -> pb.ModelVersion:
        described = pb.ModelVersion(
            version=version.number, state=_STATES[version.state], reason=version.reason, labels=labels
        )
        manifest = version.manifest
        if manifest is not None:
            serving = version.state is State.SERVING and version.engine is not None
            description = described.description
            description.CopyFrom(describe(manifest))
            description.max_horizon = self._predictor.max_horizon
            description.provider = version.engine.provider.name if serving and version.engine else ""
            if serving and version.batcher is not None:
                description.carry_horizon = version.batcher.carry_horizon
        return described


def _rollout(number: "pb.Rollout.ValueType") -> str:
    if number not in _ROLLOUTS:
        raise InvalidRequest("rollout", number, f"it must be from 0 to {max(_ROLLOUTS)}")
    return _ROLLOUTS[number]


def describe(manifest: Manifest) -> pb.ModelDescription:
    """What a manifest says of its model."""
    intervals = manifest.intervals
    return pb.ModelDescription(
        cell=manifest.cell,
        hidden_size=manifest.hidden_size,
        num_layers=manifest.num_layers,
        window=manifest.window,
        features=manifest.features,
        transform=manifest.transform.kind,
        stateful="step" in manifest.graphs,
        direct_horizon=manifest.direct_horizon,
        calendar=manifest.calendar,
        scaling=manifest.scaling.kind,
        num_series=manifest.scaling.num_series,
        intervals=intervals.kind if intervals else "",
        levels=intervals.levels if intervals else [],
        transition_depth=manifest.transition_depth,
        residual=manifest.residual,
        output_depth=manifest.output_depth,
        linear_skip=manifest.linear_skip,
        carry_horizon=manifest.rollout if CARRY in manifest.graphs else 0,
    )
