"""Requests from arguments, and results from replies: the same for both clients.

Shapes: N windows, T values per window, F features.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, SupportsIndex

import grpc
import numpy as np
from numpy.typing import ArrayLike

from nextvalue.arrays import Float32Array, floats, integers, to_float32, unpack
from nextvalue.errors import ServerError, invalid
from nextvalue.results import Model, ModelDescription, ModelState, ModelVersion, Prediction
from nextvalue.times import Times, to_seconds
from nextvalue.v1 import nextvalue_pb2 as pb

MAX_HORIZON = 2**31 - 1  # int32 on the wire; models have limits of their own


# What follows a predicted value.
SLIDING, CARRY = "sliding", "carry"
# Sliding is what a server does that is told nothing.
ROLLOUTS = {SLIDING: pb.ROLLOUT_UNSPECIFIED, CARRY: pb.ROLLOUT_CARRY}

# All levels of the model, one of them, or several.
Levels = bool | float | Sequence[float]
# What may be the id of a series.
ID = str | int | np.integer


class Packed(NamedTuple):
    """An array as it travels: its extents, and its elements as little-endian bytes."""

    shape: tuple[int, ...]
    data: bytes


@dataclass(eq=False, kw_only=True, slots=True)
class PredictExchange:
    """One `Predict`: what is asked, and what the reply must look like.

    Checked, and as bytes already: what a caller does to its arrays meanwhile changes nothing. The request is made of it
    when it is sent, alone or with others (`nextvalue.joined`).

    Attributes:
        model: name of the model.
        version: number or label; empty: the server's choice.
        horizon: how many values ahead.
        rollout: what follows a predicted value, as a number of the wire.
        windows: [N, T] or [N, T, F].
        future: [N, horizon - 1, F - 1], or None.
        time_seconds: [N, T], or None.
        series: N ids, or none.
        levels: of the intervals asked for, none for all; None where none are asked for.
        one_window: whether the caller gave one window [T] and so gets [horizon] back.
    """

    model: str
    version: str
    horizon: int
    rollout: "pb.Rollout.ValueType"
    windows: Packed
    future: Packed | None
    time_seconds: Packed | None
    series: Sequence[str]
    levels: tuple[float, ...] | None
    one_window: bool

    @classmethod
    def start(
        cls,
        model: str,
        windows: ArrayLike,
        *,
        horizon: SupportsIndex,
        version: str | int,
        future: ArrayLike | None = None,
        times: Times | None = None,
        series: str | int | Sequence[str | int] | None = None,
        intervals: Levels | None = None,
        rollout: str = SLIDING,
    ) -> Self:
        """Checks what can be checked without knowing the model.

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
        one_window = array.ndim == 1
        batch = array[None] if one_window else array
        if rollout not in ROLLOUTS:
            raise invalid(f"rollout is {rollout!r}: must be one of {', '.join(ROLLOUTS)}")
        return cls(
            model=model,
            version=str(version),
            horizon=horizon,
            rollout=ROLLOUTS[rollout],
            windows=Packed(batch.shape, floats(batch)),
            future=None if future is None else _future(future, batch, horizon),
            time_seconds=None if times is None else _times(times, batch),
            series=() if series is None else _series(series, len(batch)),
            levels=None if intervals is None or intervals is False else _levels(intervals),
            one_window=one_window,
        )

    @property
    def num_windows(self) -> int:
        """N."""
        return self.windows.shape[0]

    @property
    def request(self) -> pb.PredictRequest:
        """What is sent if it is sent alone."""
        request = pb.PredictRequest(
            model=self.model,
            version=self.version,
            windows=pb.FloatArray(shape=self.windows.shape, raw_values=self.windows.data),
            horizon=self.horizon,
            rollout=self.rollout,
            series=self.series,
        )
        if self.future is not None:
            request.future.CopyFrom(pb.FloatArray(shape=self.future.shape, raw_values=self.future.data))
        if self.time_seconds is not None:
            times = self.time_seconds
            request.time_seconds.CopyFrom(pb.IntArray(shape=times.shape, raw_values=times.data))
        if self.levels is not None:
            request.intervals.CopyFrom(pb.Intervals(levels=self.levels))
        return request

    def finish(self, reply: pb.PredictResponse) -> Prediction:
        """The prediction in a reply.

        Raises:
            ServerError: the reply does not fit the request.
        """
        shape = (self.num_windows, self.horizon)
        lower = upper = levels = None
        if self.levels is not None:
            levels = tuple(reply.levels)
            if not levels or len(levels) != len(self.levels or levels):
                raise _unusable(f"levels are {list(levels)}: asked for {list(self.levels) or 'all'}")
            lower = self._array(reply.lower, "lower", (*shape, len(levels)))
            upper = self._array(reply.upper, "upper", (*shape, len(levels)))
        return Prediction(
            model=reply.model,
            version=reply.version,
            values=self._array(reply.predictions, "predictions", shape),
            queue_seconds=reply.queue_time_ns / 1e9,
            run_seconds=reply.run_time_ns / 1e9,
            lower=lower,
            upper=upper,
            levels=levels,
            num_unknown_series=reply.num_unknown_series,
        )

    def _array(self, message: pb.FloatArray, field: str, expected: tuple[int, ...]) -> Float32Array:
        try:
            values = unpack(message, field=field)
        except ValueError as error:
            raise _unusable(str(error)) from error
        if values.shape != expected:
            raise _unusable(f"{field} has shape {list(values.shape)}: asked for {list(expected)}")
        return values[0] if self.one_window else values


def _future(future: ArrayLike, batch: Float32Array, horizon: int) -> Packed:
    num_covariates = batch.shape[2] - 1 if batch.ndim == 3 else 0
    expected = (len(batch), horizon - 1, num_covariates)
    covariates = to_float32(future, field="future")
    if covariates.shape != expected:
        raise invalid(
            f"future has shape {list(covariates.shape)}: windows of shape {list(batch.shape)} and horizon "
            f"{horizon} need [N, horizon - 1, F - 1] = {list(expected)}"
        )
    return Packed(covariates.shape, floats(covariates))


def _times(times: Times, batch: Float32Array) -> Packed:
    seconds = to_seconds(times, field="times")
    expected = batch.shape[:2]
    if seconds.shape not in {expected, expected[1:]}:
        raise invalid(
            f"times has shape {list(seconds.shape)}: windows of shape {list(batch.shape)} need [N, T] = "
            f"{list(expected)}, or [T] for all of them"
        )
    return Packed(expected, integers(np.broadcast_to(seconds, expected)))


def _series(series: str | int | Sequence[str | int], num_windows: int) -> list[str]:
    try:
        ids: list[object] = [series] * num_windows if isinstance(series, ID) else list(series)
    except TypeError as error:
        raise invalid(f"series is {series!r}: must be the id of a series, or a list of ids") from error
    if len(ids) != num_windows:
        raise invalid(f"series has {len(ids)} ids: must be one for all windows, or one for each of {num_windows}")
    for place, name in enumerate(ids):
        if not isinstance(name, ID) or isinstance(name, bool):
            raise invalid(f"series[{place}] is {name!r}: must be the id of a series, text or an integer")
    return [str(name) for name in ids]


def _levels(intervals: Levels) -> tuple[float, ...]:
    """The levels to ask for; none for all."""
    if intervals is True:
        return ()
    try:
        levels: list[float] = np.atleast_1d(np.asarray(intervals, np.float64)).tolist()
        if levels and all(0 < level < 1 for level in levels):
            return tuple(levels)
    except (TypeError, ValueError):  # no numbers, or lists of lists
        pass
    raise invalid(f"intervals is {intervals!r}: must be True for all the model has, or levels between 0 and 1")


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
        labels=tuple(message.labels),
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
        direct_horizon=message.direct_horizon,
        calendar=tuple(message.calendar),
        scaling=message.scaling,
        num_series=message.num_series,
        intervals=message.intervals,
        levels=tuple(message.levels),
        transition_depth=message.transition_depth,
        residual=message.residual,
        output_depth=message.output_depth,
        linear_skip=message.linear_skip,
        carry_horizon=message.carry_horizon,
    )
