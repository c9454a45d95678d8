"""Other windows over the same rows: some of them, those with more rows in front, or with more values behind.

Shapes: M windows, B chosen ones, S series.
"""

from collections.abc import Iterator

import numpy as np

from training.data import WindowSet
from training.data.rows import MemoryRows, Rows
from training.data.runs import Places, Runs, spread_evenly

NUMBERS_AT_ONCE = 2**20


def chosen(windows: WindowSet, numbers_B: Places) -> WindowSet:
    """The windows numbered `numbers` [B]."""
    return _like(windows, Runs.of_places(windows.rows_of(numbers_B)))


def sampled(windows: WindowSet, limit: int) -> WindowSet:
    """At most `limit` windows, spread evenly."""
    return windows if len(windows) <= limit else chosen(windows, spread_evenly(len(windows), limit))


def blocks(windows: WindowSet, row_length: int) -> Iterator[WindowSet]:
    """All windows in their order, as many at a time as keep `row_length` numbers of each within bounds."""
    size = max(1, NUMBERS_AT_ONCE // row_length)
    for start in range(0, len(windows), size):
        yield chosen(windows, np.arange(start, min(start + size, len(windows))))


def reaching(windows: WindowSet, reach: int) -> WindowSet:
    """The windows with at least `reach` rows of their own series in front of the first target."""
    if reach <= windows.window:
        return windows
    runs = windows.runs
    earliest_K = windows.series_starts[series_of(windows, runs.starts)] + reach
    return _like(windows, Runs.of_bounds(np.maximum(runs.starts, earliest_K), runs.stops))


def up_to(windows: WindowSet, horizon: int) -> WindowSet:
    """The windows with `horizon` targets, all of them measured and in the same part; fewer windows for more targets.

    Of a whole part: where windows are left out in between, the rows there pass for gaps.
    """
    more = max(0, horizon - windows.horizon)
    runs = windows.runs
    return _like(windows, Runs.of_bounds(runs.starts, runs.stops - more), horizon=horizon)


def series_of(windows: WindowSet, places: Places) -> Places:
    """Which series, from 0, each place is in."""
    return np.searchsorted(windows.series_starts, places, side="right") - 1


def num_series_of(windows: WindowSet) -> int:
    """Series of the dataset, S, whether they have a window here or not."""
    return len(windows.series_starts) - 1


def cut(windows: WindowSet, numbers_B: Places, start: int, stop: int) -> WindowSet:
    """The windows numbered `numbers` over a copy, in memory, of rows `start` up to, without, `stop`."""
    copied = windows.store.read(start, stop)
    return WindowSet(
        values=MemoryRows(copied.values.astype(np.float64), copied.time_seconds),
        rows=windows.rows_of(numbers_B) - start,
        window=windows.window,
        horizon=windows.horizon,
        series_starts=np.clip(windows.series_starts - start, 0, stop - start),
        series_numbers=windows.series_numbers,
    )


def over(windows: WindowSet, rows: Rows) -> WindowSet:
    """The same windows over other rows, as many of them."""
    return _like(windows, windows.runs, rows=rows)


def _like(windows: WindowSet, runs: Runs, *, horizon: int | None = None, rows: Rows | None = None) -> WindowSet:
    return WindowSet(
        values=rows or windows.store,
        rows=runs,
        window=windows.window,
        horizon=horizon or windows.horizon,
        series_starts=windows.series_starts,
        series_numbers=windows.series_numbers,
    )
