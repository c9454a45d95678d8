"""Windows and the values that follow them.

Shapes: M windows of T rows, H horizons, F features, B windows of a batch, R rows, S series.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.data.rows import FloatArray, MemoryRows, Rows
from training.data.runs import Places, Runs, spread_evenly


class WindowBatch(NamedTuple):
    """Windows [B, T, F], the targets behind them [B, H] and, where known, times [B, T] and series numbers [B, 1].

    Times are UTC seconds since 1970. The number of a series is its place in the table of ids; -1 is not there.
    """

    windows: FloatArray
    targets: FloatArray
    time_seconds: NDArray[np.int64] | None
    series: NDArray[np.int64] | None


class WindowSet:
    """M windows of T rows, numbered from 0, each known by the place of the row behind it, its first target.

    Only runs of places are kept and no window is written out before it is asked for, so a set costs as much as
    its gaps, and a row is stored once however many windows hold it. The H targets of a window are the rows from
    its place on.

    `values` is [R, F] or Rows that several sets share, every series after the other, `rows` the places of first
    targets [M] or runs of them. `series_starts` [S + 1] and `series_numbers` [S] say which series a place is in.
    """

    def __init__(
        self,
        *,
        values: NDArray[np.float64] | Rows,
        rows: Places | Runs,
        window: int,
        horizon: int = 1,
        series_starts: Places | None = None,
        series_numbers: Places | None = None,
    ) -> None:
        self.store = values if isinstance(values, Rows) else MemoryRows(values)
        self.runs = rows if isinstance(rows, Runs) else Runs.of_places(rows)
        self.window = window
        self.horizon = horizon
        self._series_starts = np.array([0, len(self.store)]) if series_starts is None else series_starts
        self._series_numbers = series_numbers

    def __len__(self) -> int:
        return self.runs.total

    @property
    def values(self) -> FloatArray:
        """The rows, [R, F]; a map of a file where they do not fit into memory."""
        return self.store.values

    @property
    def rows(self) -> Places:
        """The place of every window's first target, [M], written out: for small sets."""
        return self.runs.all_places()

    @property
    def has_times(self) -> bool:
        """Whether batches come with times."""
        return self.store.has_times

    @property
    def has_series(self) -> bool:
        """Whether batches come with series numbers."""
        return self._series_numbers is not None

    @property
    def largest(self) -> NDArray[np.float64]:
        """The greatest magnitude of each feature among all rows, [F]."""
        return self.store.largest

    def rows_of(self, chosen_B: Places) -> Places:
        """The places [B] of the first targets of the windows numbered `chosen` [B]."""
        return self.runs.places(chosen_B)

    def batch(self, chosen_B: Places, dtype: DTypeLike | None = None, *, times: bool = True) -> WindowBatch:
        """The windows numbered `chosen` [B], in the rows' own precision or the one asked for; `times` may be left out.

        Rows in memory are float64, those too many for it float32. Casting to float32 costs nothing: it was done once.
        """
        places_B = self.rows_of(chosen_B)
        values_BLF, times_BL = self.store.gather(places_B - self.window, self.window + self.horizon, dtype, times=times)
        return WindowBatch(
            windows=values_BLF[:, : self.window],
            targets=values_BLF[:, self.window :, 0],
            time_seconds=None if times_BL is None else times_BL[:, : self.window],
            series=None if self._series_numbers is None else self._series_numbers[self.series_of(places_B)][:, None],
        )

    def batches(self, size: int, dtype: DTypeLike | None = None) -> Iterator[WindowBatch]:
        """All windows in their order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), dtype)

    def windows(self, limit: int | None = None) -> NDArray[np.float64]:
        """The windows [M, T, F], or `limit` of them spread evenly."""
        return self._gather(limit, -self.window, self.window)

    def targets(self, limit: int | None = None) -> NDArray[np.float64]:
        """The target values [M, H] that followed the windows, in the same order."""
        return self._gather(limit, 0, self.horizon)[:, :, 0]

    def _gather(self, limit: int | None, offset: int, length: int) -> NDArray[np.float64]:
        starts = self.rows_of(spread_evenly(len(self), limit)) + offset
        values: NDArray[Any] = self.store.gather(starts, length, np.float64, times=False).values
        return values

    @property
    def windows_per_series(self) -> NDArray[np.int64]:
        """How many windows each series of the dataset has in this set, [S]."""
        counts_S = np.zeros(len(self._series_starts) - 1, dtype=np.int64)
        np.add.at(counts_S, self.series_of(self.runs.starts), self.runs.stops - self.runs.starts)
        return counts_S

    @property
    def series_starts(self) -> Places:
        """The place of each series' first row, [S + 1]; the last is behind the last series."""
        return self._series_starts

    @property
    def series_numbers(self) -> Places | None:
        """The number of each series in the table, [S], or None."""
        return self._series_numbers

    def series_of(self, places: Places) -> Places:
        """Which series, from 0, each place is in."""
        return np.searchsorted(self.series_starts, places, side="right") - 1

    def joined(self, others: "WindowSet") -> "WindowSet":
        """The windows of both, in the order of their places; `others` are windows of the same rows."""
        return self._of(self.runs.joined(others.runs))

    def each_series(self) -> Iterator[tuple[int, "WindowSet"]]:
        """For every series that has a window here: its place in the dataset and its own windows."""
        series_K = self.series_of(self.runs.starts)
        firsts = np.flatnonzero(np.diff(series_K, prepend=-1))
        for first, last in zip(firsts, [*firsts[1:], len(series_K)], strict=True):
            yield int(series_K[first]), self._of(self.runs.part(int(first), int(last)))

    def _of(self, runs: Runs) -> "WindowSet":
        """Other windows of the same rows."""
        return WindowSet(
            values=self.store,
            rows=runs,
            window=self.window,
            horizon=self.horizon,
            series_starts=self.series_starts,
            series_numbers=self.series_numbers,
        )


class Parts(NamedTuple):
    """The windows to fit on, to stop by and to judge by."""

    fit: WindowSet
    validation: WindowSet
    test: WindowSet
