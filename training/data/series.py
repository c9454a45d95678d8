"""A series, and a dataset of them.

Shapes: L rows of a series, R rows of all, F features (feature 0 is the target), S series.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from training.data.cache import FileRows
from training.data.provenance import Provenance
from training.data.rows import MemoryRows, Rows
from training.data.runs import Places, Runs

# Dates (datetime64) or plain numbers (float64), such as years.
Times = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Rows in order of time, evenly spaced, every value a finite number.

    `values` is [L, F] in raw units, feature 0 the target. `targetable` [L] marks the rows a model may be
    asked for: their value was measured, and nothing in front of them was filled in by looking at it.
    `time_seconds` [L] counts UTC seconds since 1970; None where the rows have no dates.
    """

    values: NDArray[np.float64]
    targetable: NDArray[np.bool_]
    time_seconds: NDArray[np.int64] | None = None


class PackedSeries(Sequence[Series]):
    """S series end to end. Series s is rows `starts[s]` up to, without, `starts[s + 1]`; it is read when asked for.

    `targetable` are the places that may be targets, no run of which reaches from one series into the next.
    """

    def __init__(self, rows: Rows, starts_S1: Places, targetable: Runs) -> None:
        self.rows = rows
        self.starts = starts_S1
        self.targetable = targetable

    @classmethod
    def of(cls, series: Iterable[Series]) -> "PackedSeries":
        """The series in memory, end to end; packed ones as they are."""
        if isinstance(series, PackedSeries):
            return series
        packer = Packer()
        for one in series:
            packer.append(one)
        return packer.packed()

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Series: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Series, ...]: ...

    def __getitem__(self, index: int | slice) -> Series | tuple[Series, ...]:
        if isinstance(index, slice):
            return tuple(self[s] for s in range(len(self))[index])
        s = range(len(self))[index]
        start, stop = int(self.starts[s]), int(self.starts[s + 1])
        first, last = np.searchsorted(self.targetable.starts, (start, stop))
        targetable_L = np.zeros(stop - start, dtype=np.bool_)
        targetable_L[self.targetable.part(int(first), int(last)).all_places() - start] = True
        values_LF, times_L = self.rows.read(start, stop)
        return Series(values=values_LF.astype(np.float64, copy=False), targetable=targetable_L, time_seconds=times_L)

    def series_of(self, places: Places) -> Places:
        """Which series, from 0, each place is in."""
        return np.searchsorted(self.starts, places, side="right") - 1

    @property
    def lengths(self) -> Places:
        """Rows of each series, [S]."""
        return np.diff(self.starts)


class Packer:
    """Lays series end to end: in memory, or in the file rows given. Times only if every series has them."""

    def __init__(self, file_rows: FileRows | None = None) -> None:
        self._file_rows = file_rows
        self._values: list[NDArray[np.float64]] = []
        self._times: list[NDArray[np.int64]] = []
        self._starts = [0]
        self._runs: list[Runs] = []

    def append(self, series: Series) -> None:
        """Put a series behind the others."""
        self._runs.append(Runs.of_flags(series.targetable, self._starts[-1]))
        self._starts.append(self._starts[-1] + len(series.values))
        if self._file_rows is not None:
            self._file_rows.append(series.values, series.time_seconds)
            return
        self._values.append(series.values)
        if series.time_seconds is not None:
            self._times.append(series.time_seconds)

    def packed(self) -> PackedSeries:
        """All that were appended, one or more."""
        rows: Rows | None = self._file_rows
        if rows is None:
            has_times = len(self._times) == len(self._values)
            rows = MemoryRows(np.concatenate(self._values), np.concatenate(self._times) if has_times else None)
        starts, stops = (np.concatenate([run[i] for run in self._runs]) for i in (0, 1))
        return PackedSeries(rows, np.array(self._starts, dtype=np.int64), Runs.of_bounds(starts, stops))

    def close(self) -> None:
        """Give back what was written."""
        if self._file_rows is not None:
            self._file_rows.close()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Series with the same features. A window never crosses from one series to the next.

    `series_ids` [S] names the series where the source does. A model that keeps a table of series knows them by
    their place in `table`, which is `series_ids` unless the dataset was `numbered_as` another one. Close the
    dataset, or use it in a `with`, to give back the disk space that rows too many for memory take; nothing can be
    read from it afterwards.
    """

    features: tuple[str, ...]
    series: Sequence[Series]
    provenance: Provenance
    series_ids: tuple[str, ...] = ()
    table: tuple[str, ...] | None = None

    def numbered_as(self, table: tuple[str, ...]) -> "Dataset":
        """The same series, numbered by their places in `table`: that of a model fitted on other data."""
        return replace(self, table=table)

    @property
    def series_numbers(self) -> NDArray[np.int64] | None:
        """The place of each series in the table, [S], -1 where it is not there; None where series have no ids."""
        if not self.series_ids:
            return None
        if self.table is None:
            return np.arange(len(self.series_ids), dtype=np.int64)
        places = {name: place for place, name in enumerate(self.table)}
        return np.array([places.get(name, -1) for name in self.series_ids], dtype=np.int64)

    def __enter__(self) -> "Dataset":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what the series occupy outside memory."""
        if isinstance(self.series, PackedSeries):
            self.series.rows.close()
