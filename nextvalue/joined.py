"""Requests joined along N, and the reply's rows given back: what joining does to messages.

Shapes: N windows, T values per window, F features.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from nextvalue.messages import Packed, PredictExchange
from nextvalue.results import Prediction


def kind_of(asked: PredictExchange) -> Hashable:
    """What calls must have in common to be joined: all but their rows."""
    return (
        asked.model,
        asked.version,
        asked.horizon,
        asked.rollout,
        asked.windows.shape[1:],
        asked.levels,
        asked.future is not None,
        asked.time_seconds is not None,
        bool(asked.series),
    )


def size_of(asked: PredictExchange) -> int:
    """Bytes that a call adds to a joined message, or its rows to the reply, whichever are more; about right."""
    windows = asked.windows
    sent = len(windows.data)
    if asked.future is not None:
        sent += len(asked.future.data)
    if asked.time_seconds is not None:
        sent += len(asked.time_seconds.data)
    if asked.series:
        sent += sum(4 * len(name) + 4 for name in asked.series)  # a character has up to 4 bytes in UTF-8
    answered = 4 * windows.shape[0] * asked.horizon
    if asked.levels is not None:
        answered *= 1 + 2 * len(asked.levels)
    return max(sent, answered)


def joined(calls: Sequence[PredictExchange]) -> PredictExchange:
    """One call with the rows of all, in their order. They are of one kind; a single one is itself."""
    first = calls[0]
    if len(calls) == 1:
        return first
    return replace(
        first,
        windows=_stacked([each.windows for each in calls]),
        future=_stacked([each.future for each in calls if each.future is not None]) if first.future else None,
        time_seconds=_stacked([each.time_seconds for each in calls if each.time_seconds is not None])
        if first.time_seconds
        else None,
        series=[name for each in calls for name in each.series],
        one_window=False,
    )


def _stacked(arrays: Sequence[Packed]) -> Packed:
    """Arrays in C order, alike but for their first extent, are joined along it by joining their bytes."""
    num_rows = sum([array.shape[0] for array in arrays])
    return Packed((num_rows, *arrays[0].shape[1:]), b"".join([array.data for array in arrays]))


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
