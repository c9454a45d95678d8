"""From `--data` and its companions to a Dataset."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from training.data import gaps
from training.data.cache import FileRows, check_disk, record_of
from training.data.cleaning import Rules, clean
from training.data.counting import BUILT_IN
from training.data.grouping import (
    Census,
    Names,
    RawSeries,
    consecutive,
    grouped_in_memory,
    read_blocks,
    take_census,
)
from training.data.progress import Progress, silent
from training.data.provenance import Tally
from training.data.series import Dataset, Packer
from training.data.spill import spill_record, spilled
from training.data.table import Columns, Table, choose_columns, open_table
from training.errors import DataError
from training.files import sha256_of

SPACINGS = ("regular", "any")
# A Parquet file whose values and times take more than this is kept on disk, and read by row group either way.
MEMORY_LIMIT_BYTES = 128 * 2**20
BYTES_PER_NUMBER = 8


class DataOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to read and how.

    `source` is a built-in example or a file, `column` the target, `features` the covariates, `time` the column
    that orders the rows (None: the first that holds timestamps) and `series` the one that says which series a row
    belongs to (None: `series_id` or `unique_id` where there is one, else all rows are one series). `spacing` is
    `regular` (rows missing from the timeline are gaps) or `any` (rows count, whatever lies between them). Raises
    ValueError for an unknown word.
    """

    source: str
    column: str | None = None
    features: tuple[str, ...] = ()
    time: str | None = None
    series: str | None = None
    gaps: str = "error"
    spacing: str = "regular"

    def __post_init__(self) -> None:
        """Refuse what no rule exists for."""
        if self.gaps not in gaps.POLICIES:
            raise ValueError(f"gaps is {self.gaps!r}; it must be one of {', '.join(gaps.POLICIES)}")
        if self.spacing not in SPACINGS:
            raise ValueError(f"spacing is {self.spacing!r}; it must be one of {', '.join(SPACINGS)}")


def load(
    options: DataOptions, *, progress: Progress | None = None, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
) -> Dataset:
    """Read the source. Raises DataError naming file, series, column and row where it cannot be used.

    A Parquet file above `memory_limit_bytes` is kept in a temporary file, in single precision: close the dataset
    to give the space back. `progress` is told how far the reading is.
    """
    if options.source in BUILT_IN:
        if options.column not in (None, "value") or options.features or options.time or options.series:
            raise DataError(f"{options.source!r} has the one column 'value', no time and no ids; leave out the others")
        return BUILT_IN[options.source]()
    path = Path(options.source)
    if not path.suffix and not path.exists():
        names = ", ".join(BUILT_IN)
        raise DataError(f"--data is {options.source!r}; it must be a .csv or .parquet file, or one of {names}")
    table = open_table(path)
    columns = choose_columns(
        table, column=options.column, features=options.features, time=options.time, series=options.series
    )
    rules = Rules(source=options.source, columns=columns, gaps=options.gaps, spacing=options.spacing)
    is_large = _num_bytes(table, columns) > memory_limit_bytes
    tally = Tally()
    ids = []
    packer = Packer(_file_rows(table, columns) if is_large else None)
    try:
        for raw in _raw_series(table, columns, progress or silent, is_large=is_large):
            series, report = clean(raw, rules)
            tally.add(report)
            if report.num_rows:
                packer.append(series)
                ids.append(raw.id)
    except BaseException:
        packer.close()
        raise
    if not ids:
        raise DataError(f"{path} has no row in which {', '.join(map(repr, columns.values))} all have a value")
    return Dataset(
        features=columns.values,
        series=packer.packed(),
        provenance=tally.provenance(sha256=sha256_of(path), time=columns.time, series=columns.series),
        series_ids=() if columns.series is None else tuple(ids),
    )


def _raw_series(table: Table, columns: Columns, progress: Progress, *, is_large: bool) -> Iterator[RawSeries]:
    """One series after the other, in the order of their first rows, by the way that fits the file."""
    names = Names()
    blocks = read_blocks(table, columns, names, progress)
    if table.num_rows is None:
        return grouped_in_memory(blocks, names)
    census = take_census(table, columns, progress)
    if is_large:
        _check_disk(table, columns, census)
    if census.is_consecutive:
        return consecutive(blocks, names)
    return spilled(blocks, census) if is_large else grouped_in_memory(blocks, names)


def _num_bytes(table: Table, columns: Columns) -> int:
    num_columns = len(columns.values) + (columns.time is not None)
    return (table.num_rows or 0) * num_columns * BYTES_PER_NUMBER


def _file_rows(table: Table, columns: Columns) -> FileRows:
    has_times = columns.time is not None and table.has_dates(columns.time)
    return FileRows(len(columns.values), has_times=has_times)


def _check_disk(table: Table, columns: Columns, census: Census) -> None:
    """Room for the rows, and for sorting them where series are mixed."""
    num_features = len(columns.values)
    bytes_per_row = record_of(num_features, has_times=columns.time is not None).itemsize
    if not census.is_consecutive:
        bytes_per_row += spill_record(num_features, None if columns.time is None else float).itemsize
    check_disk(str(table.path), (table.num_rows or 0) * bytes_per_row)
