"""Requests joined along N, and the reply's rows given back: what joining does to messages.

Shapes: N windows, T values per window, F features.
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from nextvalue.results import Prediction
from nextvalue.v1 import nextvalue_pb2 as pb

AnyArray = TypeVar("AnyArray", pb.FloatArray, pb.IntArray)


def kind_of(request: pb.PredictRequest) -> Hashable:
    """What requests must have in common to be joined: all but their rows."""
    return (
        request.model,
        request.version,
        request.horizon,
        request.rollout,
        tuple(request.windows.shape[1:]),
        tuple(request.intervals.levels) if request.HasField("intervals") else None,
        request.HasField("future"),
        request.HasField("time_seconds"),
        bool(request.series),
    )


def size_of(request: pb.PredictRequest) -> int:
    """Bytes that a request adds to a joined message, or its rows to the reply, whichever are more; about right."""
    windows = request.windows
    asked = len(windows.raw_values)
    if request.HasField("future"):
        asked += len(request.future.raw_values)
    if request.HasField("time_seconds"):
        asked += len(request.time_seconds.raw_values)
    if request.series:
        asked += sum(4 * len(name) + 4 for name in request.series)  # a character has up to 4 bytes in UTF-8
    answered = 4 * windows.shape[0] * request.horizon
    if request.HasField("intervals"):
        answered *= 1 + 2 * len(request.intervals.levels)
    return max(asked, answered)


def joined(requests: Sequence[pb.PredictRequest]) -> pb.PredictRequest:
    """One request with the rows of all, in their order. They are of one kind; a single one is itself."""
    first = requests[0]
    if len(requests) == 1:
        return first
    request = pb.PredictRequest(
        model=first.model,
        version=first.version,
        windows=_stacked(pb.FloatArray, [each.windows for each in requests]),
        horizon=first.horizon,
        rollout=first.rollout,
    )
    if first.HasField("future"):
        request.future.CopyFrom(_stacked(pb.FloatArray, [each.future for each in requests]))
    if first.HasField("time_seconds"):
        request.time_seconds.CopyFrom(_stacked(pb.IntArray, [each.time_seconds for each in requests]))
    if first.HasField("intervals"):
        request.intervals.CopyFrom(first.intervals)
    for each in requests:
        request.series.extend(each.series)
    return request


def _stacked(kind: type[AnyArray], arrays: Sequence[AnyArray]) -> AnyArray:
    """Arrays in C order, alike but for their first extent, are joined along it by joining their bytes."""
    return kind(
        shape=[sum(array.shape[0] for array in arrays), *arrays[0].shape[1:]],
        raw_values=b"".join([array.raw_values for array in arrays]),
    )


def rows_of(whole: Prediction, start: int, stop: int, *, one_window: bool, num_unknown_series: int) -> Prediction:
    """The prediction of one of the requests, in memory of its own: a caller that keeps its row keeps no other's."""
    rows = start if one_window else slice(start, stop)
    return Prediction(
        model=whole.model,
        version=whole.version,
        values=whole.values[rows].copy(),
        queue_seconds=whole.queue_seconds,
        run_seconds=whole.run_seconds,
        lower=None if whole.lower is None else whole.lower[rows].copy(),
        upper=None if whole.upper is None else whole.upper[rows].copy(),
        levels=whole.levels,
        num_unknown_series=num_unknown_series,
    )
