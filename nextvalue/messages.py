"""Requests from arguments, and results from replies: the same for both clients.

Shapes: N windows, T values per window, F features.
"""

import operator
from dataclasses import dataclass
from typing import Self, SupportsIndex

import grpc
from numpy.typing import ArrayLike

from nextvalue.arrays import pack, to_float32, unpack
from nextvalue.errors import ServerError, invalid
from nextvalue.results import Model, ModelDescription, ModelState, ModelVersion, Prediction
from nextvalue.v1 import nextvalue_pb2 as pb

MAX_HORIZON = 2**31 - 1  # int32 on the wire; models have limits of their own


@dataclass(frozen=True)
class PredictExchange:
    """One `Predict`: the request, and what its reply must look like.

    Attributes:
        request: what is sent.
        one_window: whether the caller gave one window [T] and so gets [horizon] back.
    """

    request: pb.PredictRequest
    one_window: bool

    @classmethod
    def start(
        cls, model: str, windows: ArrayLike, *, horizon: SupportsIndex, version: str | int, future: ArrayLike | None
    ) -> Self:
        """Checks what can be checked without knowing the model, and builds the request.

        Raises:
            InvalidArgument: an argument cannot be right for any model.
        """
        if not model:
            raise invalid("model is empty: must be the name of a model")
        horizon = operator.index(horizon)
        if not 1 <= horizon <= MAX_HORIZON:
            raise invalid(f"horizon is {horizon}: must be between 1 and {MAX_HORIZON}")
        array = to_float32(windows, field="windows")
        if array.ndim not in {1, 2, 3} or 0 in array.shape:
            raise invalid(f"windows has shape {list(array.shape)}: must be [T], [N, T] or [N, T, F], none of them 0")
        batch = array[None] if array.ndim == 1 else array
        request = pb.PredictRequest(model=model, version=str(version), windows=pack(batch), horizon=horizon)
        if future is not None:
            num_covariates = batch.shape[2] - 1 if batch.ndim == 3 else 0
            expected = (len(batch), horizon - 1, num_covariates)
            covariates = to_float32(future, field="future")
            if covariates.shape != expected:
                raise invalid(
                    f"future has shape {list(covariates.shape)}: windows of shape {list(batch.shape)} and horizon "
                    f"{horizon} need [N, horizon - 1, F - 1] = {list(expected)}"
                )
            request.future.CopyFrom(pack(covariates))
        return cls(request, one_window=array.ndim == 1)

    def finish(self, reply: pb.PredictResponse) -> Prediction:
        """The prediction in a reply.

        Raises:
            ServerError: the reply does not fit the request.
        """
        expected = (self.request.windows.shape[0], self.request.horizon)
        try:
            values = unpack(reply.predictions, field="predictions")
        except ValueError as error:
            raise _unusable(str(error)) from error
        if values.shape != expected:
            raise _unusable(f"predictions has shape {list(values.shape)}: asked for {list(expected)}")
        return Prediction(
            model=reply.model,
            version=reply.version,
            values=values[0] if self.one_window else values,
            queue_seconds=reply.queue_time_ns / 1e9,
            run_seconds=reply.run_time_ns / 1e9,
        )


def _unusable(details: str) -> ServerError:
    return ServerError(grpc.StatusCode.INTERNAL, f"unusable reply: {details}")


_STATE_OF_NUMBER: dict[int, ModelState] = {
    pb.ModelVersion.STATE_LOADING: ModelState.LOADING,
    pb.ModelVersion.STATE_SERVING: ModelState.SERVING,
    pb.ModelVersion.STATE_FAILED: ModelState.FAILED,
    pb.ModelVersion.STATE_STANDBY: ModelState.STANDBY,
}


def model_from(message: pb.Model) -> Model:
    """A model as the server describes it; a state from the future is `UNSPECIFIED`."""
    return Model(
        name=message.name,
        versions=tuple(_version_from(version) for version in message.versions),
        default_version=message.default_version or None,
    )


def _version_from(message: pb.ModelVersion) -> ModelVersion:
    return ModelVersion(
        version=message.version,
        state=_STATE_OF_NUMBER.get(message.state, ModelState.UNSPECIFIED),
        reason=message.reason,
        description=_description_from(message.description) if message.HasField("description") else None,
    )


def _description_from(message: pb.ModelDescription) -> ModelDescription:
    return ModelDescription(
        cell=message.cell,
        hidden_size=message.hidden_size,
        num_layers=message.num_layers,
        window=message.window,
        features=tuple(message.features),
        transform=message.transform,
        max_horizon=message.max_horizon,
        stateful=message.stateful,
        provider=message.provider,
    )
