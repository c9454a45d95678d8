"""From `--data` and its companions to a Dataset."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.data import gaps, timeline
from training.data.counting import BUILT_IN
from training.data.series import Dataset, Provenance, Series, Times
from training.data.table import choose_columns, read_table, times_of, values_of
from training.errors import DataError
from training.files import sha256_of

SPACINGS = ("regular", "any")


class DataOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to read and how.

    `source` is a built-in example or a file, `column` the target, `features` the covariates, `time` the column
    that orders the rows (None: the first that holds timestamps). `spacing` is `regular` (rows missing from the
    timeline are gaps) or `any` (rows count, whatever lies between them). Raises ValueError for an unknown word.
    """

    source: str
    column: str | None = None
    features: tuple[str, ...] = ()
    time: str | None = None
    gaps: str = "error"
    spacing: str = "regular"

    def __post_init__(self) -> None:
        """Refuse what no rule exists for."""
        if self.gaps not in gaps.POLICIES:
            raise ValueError(f"gaps is {self.gaps!r}; it must be one of {', '.join(gaps.POLICIES)}")
        if self.spacing not in SPACINGS:
            raise ValueError(f"spacing is {self.spacing!r}; it must be one of {', '.join(SPACINGS)}")


def load(options: DataOptions) -> Dataset:
    """Read the source. Raises DataError naming file, column and row where it cannot be used."""
    if options.source in BUILT_IN:
        if options.column not in (None, "value") or options.features or options.time is not None:
            raise DataError(f"{options.source!r} has the one column 'value' and no time; leave out the others")
        return BUILT_IN[options.source]()
    path = Path(options.source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUILT_IN)
        raise DataError(f"--data is {options.source!r}; it must be a .csv or .parquet file, or one of {names}")
    table = read_table(path)
    columns = choose_columns(path, table, column=options.column, features=options.features, time=options.time)
    values_LF = values_of(path, table, columns.values)
    rows_L = np.arange(1, len(values_LF) + 1)
    times_L = None if columns.time is None else times_of(path, table, columns.time)
    if options.gaps == "error":
        _refuse_missing_values(path, values_LF, columns.values)
    num_untimed = 0
    if times_L is not None:
        # Nobody knows when a row without a time was, so it is dropped and its place on the timeline is a gap.
        is_timed_L = ~np.isnan(times_L) if times_L.dtype.kind == "f" else ~np.isnat(times_L)
        num_untimed = int((~is_timed_L).sum())
        if num_untimed and options.gaps == "error":
            row = int(np.argmin(is_timed_L)) + 1
            raise DataError(f"{path}, time column {columns.time!r}, row {row}: the time is missing")
        values_LF, rows_L, times_L = values_LF[is_timed_L], rows_L[is_timed_L], times_L[is_timed_L]
        values_LF, times_L = _on_timeline(options, str(columns.time), values_LF, rows_L, times_L)
    filled = gaps.fill(values_LF, options.gaps)
    if not len(filled.values):
        raise DataError(f"{path} has no row in which {', '.join(map(repr, columns.values))} all have a value")
    series = Series(
        values=filled.values,
        targetable=filled.targetable,
        times=None if times_L is None else times_L[filled.kept],
    )
    provenance = Provenance(
        sha256=sha256_of(path),
        time=columns.time,
        num_series=1,
        num_rows=len(filled.values),
        num_gaps_filled=filled.num_gaps_filled,
        num_rows_untimed=num_untimed,
        num_rows_trimmed=len(values_LF) - len(filled.values),
    )
    return Dataset(features=columns.values, series=(series,), provenance=provenance)


def _refuse_missing_values(path: Path, values_LF: NDArray[np.float64], names: tuple[str, ...]) -> None:
    """Under the policy `error`, the first value that is not a finite number ends the reading."""
    missing = np.argwhere(np.isnan(values_LF))
    if len(missing):
        row, f = missing[0]
        raise DataError(
            f"{path}, column {names[f]!r}, row {row + 1}: the value is missing, infinite or beyond single precision "
            f"({len(missing)} such values in all); --gaps ffill or interpolate fills them"
        )


def _on_timeline(
    options: DataOptions, name: str, values_LF: NDArray[np.float64], rows_L: NDArray[np.int64], times_L: Times
) -> tuple[NDArray[np.float64], Times]:
    """Put the rows on an even timeline, with a row of NaN where one is missing."""
    positions_L = timeline.positions(times_L, rows_L, name, is_even=options.spacing == "regular")
    if not len(positions_L):
        return values_LF, times_L
    num_places = int(positions_L[-1]) + 1
    num_missing = num_places - len(positions_L)
    if not num_missing:
        return values_LF, times_L
    if options.gaps == "error":
        i = int(np.argmax(np.diff(positions_L) > 1))
        raise DataError(
            f"{options.source}, time column {name!r}, row {rows_L[i + 1]}: "
            f"{positions_L[i + 1] - positions_L[i] - 1} rows are missing between {times_L[i]} and {times_L[i + 1]} "
            f"({num_missing} in all); --gaps ffill or interpolate fills them, --spacing any counts rows instead"
        )
    if num_missing > len(positions_L):
        raise DataError(
            f"{options.source}, time column {name!r}: {num_missing} rows are missing and {len(positions_L)} present; "
            "at most half of a timeline can be filled"
        )
    on_timeline = np.full((num_places, values_LF.shape[1]), np.nan)
    on_timeline[positions_L] = values_LF
    return on_timeline, timeline.spread(times_L, positions_L)
