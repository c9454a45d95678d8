"""One series as it was read to one that can be learnt from: its timeline made even, its gaps filled, all of it counted.

Shapes: L rows, F features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data import gaps, timeline
from training.data.grouping import RawSeries
from training.data.provenance import SeriesReport
from training.data.series import Series, Times
from training.data.table import Columns
from training.errors import DataError


class Rules(NamedTuple):
    """What to read from which file (`source`), and the policies for gaps and spacing."""

    source: str
    columns: Columns
    gaps: str
    spacing: str


class Cleaned(NamedTuple):
    """The series, which may have lost all its rows, and what was found in it."""

    series: Series
    report: SeriesReport


def clean(raw: RawSeries, rules: Rules) -> Cleaned:
    """Apply the policies. Raises DataError naming file, series, column and row where they do not allow a value."""
    where = rules.source if rules.columns.series is None else f"{rules.source}, series {raw.id!r}"
    values_LF, rows_L, times_L = raw.values, raw.rows, raw.times
    if rules.gaps == "error":
        _refuse_missing_values(where, values_LF, rows_L, rules.columns.values)
    num_untimed = num_missing = 0
    if times_L is not None:
        label = f"{where}, time column {rules.columns.time!r}"
        # Nobody knows when a row without a time was, so it is dropped and its place on the timeline is a gap.
        is_timed_L = ~np.isnan(times_L) if times_L.dtype.kind == "f" else ~np.isnat(times_L)
        num_untimed = int((~is_timed_L).sum())
        if num_untimed:
            if rules.gaps == "error":
                raise DataError(f"{label}, row {rows_L[np.argmin(is_timed_L)]}: the time is missing")
            values_LF, rows_L, times_L = values_LF[is_timed_L], rows_L[is_timed_L], times_L[is_timed_L]
        num_measured = len(values_LF)
        values_LF, times_L = _on_timeline(label, rules, values_LF, rows_L, times_L)
        num_missing = len(values_LF) - num_measured
    filled = gaps.fill(values_LF, rules.gaps)
    series = Series(
        values=filled.values,
        targetable=filled.targetable,
        time_seconds=None if times_L is None else timeline.utc_seconds(times_L[filled.kept]),
    )
    report = SeriesReport(
        id=raw.id,
        num_rows=len(filled.values),
        num_rows_missing=num_missing,
        num_gaps_filled=filled.num_gaps_filled,
        num_rows_untimed=num_untimed,
        num_rows_trimmed=len(values_LF) - len(filled.values),
    )
    return Cleaned(series, report)


def _refuse_missing_values(
    where: str, values_LF: NDArray[np.float64], rows_L: NDArray[np.int64], names: tuple[str, ...]
) -> None:
    """Under the policy `error`, the first value that is not a finite number ends the reading."""
    missing_LF = np.isnan(values_LF)
    if missing_LF.any():
        row, f = np.argwhere(missing_LF)[0]
        raise DataError(
            f"{where}, column {names[f]!r}, row {rows_L[row]}: the value is missing, infinite or beyond single "
            f"precision ({missing_LF.sum()} such values in all); --gaps ffill or interpolate fills them"
        )


def _on_timeline(
    label: str, rules: Rules, values_LF: NDArray[np.float64], rows_L: NDArray[np.int64], times_L: Times
) -> tuple[NDArray[np.float64], Times]:
    """Put the rows on an even timeline, with a row of NaN where one is missing."""
    positions_L = timeline.positions(times_L, rows_L, label, is_even=rules.spacing == "regular")
    if not len(positions_L):
        return values_LF, times_L
    num_places = int(positions_L[-1]) + 1
    num_missing = num_places - len(positions_L)
    if not num_missing:
        return values_LF, times_L
    if rules.gaps == "error":
        i = int(np.argmax(np.diff(positions_L) > 1))
        raise DataError(
            f"{label}, row {rows_L[i + 1]}: "
            f"{positions_L[i + 1] - positions_L[i] - 1} rows are missing between {times_L[i]} and {times_L[i + 1]} "
            f"({num_missing} in all); --gaps ffill or interpolate fills them, --spacing any counts rows instead"
        )
    if num_missing > len(positions_L):
        raise DataError(
            f"{label}: {num_missing} rows are missing and {len(positions_L)} present; "
            "at most half of a timeline can be filled"
        )
    on_timeline = np.full((num_places, values_LF.shape[1]), np.nan)
    on_timeline[positions_L] = values_LF
    return on_timeline, timeline.spread(times_L, positions_L)
