"""Files as blocks of named columns: reading CSV and Parquet, and choosing among what they hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from training.data.series import Times
from training.errors import DataError

SUFFIXES = (".csv", ".parquet")
# Columns by these names say which series a row belongs to, unless they are asked for as something else.
SERIES_NAMES = ("series_id", "unique_id")
ROWS_PER_BLOCK = 2**17
READ_BUFFER_BYTES = 2**20


class Columns(NamedTuple):
    """The names to read: the values (target first) and, where there are any, the time and the series."""

    values: tuple[str, ...]
    time: str | None
    series: str | None

    @property
    def all(self) -> list[str]:
        """Every name."""
        return [*self.values, *(name for name in (self.time, self.series) if name is not None)]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file that can be read: its columns' types, and how many rows it has where it says so (Parquet)."""

    path: Path
    schema: Any
    num_rows: int | None

    def has_dates(self, name: str) -> bool:
        """Whether a column holds dates or timestamps."""
        return _is_time(self.schema.field(name).type)

    def blocks(self, names: list[str], series: str | None = None) -> Iterator[Any]:
        """The columns `names` as pyarrow Tables, from the first row to the last.

        A CSV file comes in one, a Parquet file in blocks that a row group of any size is read in. The ids in
        `series` come as they are written.
        """
        try:
            if self.num_rows is None:
                yield self._csv(names, series)
                return
            with pa.parquet.ParquetFile(self.path, buffer_size=READ_BUFFER_BYTES, pre_buffer=False) as file:
                for batch in file.iter_batches(ROWS_PER_BLOCK, columns=names, use_threads=False):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.path, error) from error

    def _csv(self, names: list[str], series: str | None) -> Any:
        """Types are guessed from the first block; whole numbers there are read as floats, which later ones may be."""
        types = {
            field.name: pa.float64()
            for field in self.schema
            if pa.types.is_integer(field.type) or pa.types.is_null(field.type)
        }
        return pa.csv.read_csv(
            self.path,
            # One thread, so that an error names the row.
            read_options=pa.csv.ReadOptions(use_threads=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=types if series is None else types | {series: pa.string()}, include_columns=names
            ),
        )


def open_table(path: Path) -> Table:
    """The file, not yet read. Raises DataError where it is missing, empty or cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}; a data file must end in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an existing CSV or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    try:
        if path.suffix.lower() == ".csv":
            with pa.csv.open_csv(path) as reader:
                schema, num_rows = reader.schema, None
        else:
            with pa.parquet.ParquetFile(path) as file:
                schema, num_rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} names the column {repeated[0]!r} more than once")
    return Table(path=path, schema=schema, num_rows=num_rows)


def choose_columns(
    table: Table, *, column: str | None, features: tuple[str, ...], time: str | None, series: str | None
) -> Columns:
    """Which columns to read. Raises DataError for one that is missing, named twice, left open or of no use."""
    path, schema = table.path, table.schema
    asked = (("--column", column), ("--time", time), ("--series", series), *(("--features", name) for name in features))
    for option, name in asked:
        if name is not None and name not in schema.names:
            raise DataError(f"{option} is {name!r}; {path} has the columns {_listed(schema.names)}")
    if series is None:
        series = next((n for n in SERIES_NAMES if n in schema.names and n not in (column, time, *features)), None)
    if time is None:
        time = next((f.name for f in schema if _is_time(f.type) and f.name not in (column, series, *features)), None)
    if column is None:
        open_names = [f.name for f in schema if is_number(f.type) and f.name not in (time, series, *features)]
        if len(open_names) != 1:
            raise DataError(
                f"{path} has {len(open_names)} value columns ({_listed(open_names)}); choose the target with --column"
            )
        column = open_names[0]
    columns = Columns(values=(column, *features), time=time, series=series)
    repeated = [name for name in columns.all if columns.all.count(name) > 1]
    if repeated:
        raise DataError(
            f"column {repeated[0]!r} is named more than once among --column, --features, --time and --series"
        )
    _check_types(table, columns)
    return columns


def _check_types(table: Table, columns: Columns) -> None:
    for name in columns.values:
        if not is_number(table.schema.field(name).type):
            raise DataError(_not_a_number(table, name))
    if columns.time is not None:
        kind = table.schema.field(columns.time).type
        if not _is_time(kind) and not is_number(kind):
            raise DataError(
                f"{table.path}, time column {columns.time!r}, row 1: {_first(table, columns.time)!r} is {kind}; "
                "it must be ISO 8601 (2014-07-01 00:30:00) or a number"
            )
    if columns.series is not None:
        kind = table.schema.field(columns.series).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        # The ids of a CSV file are read as they are written, whatever they look like.
        if table.num_rows is not None and not _is_id(kind):
            raise DataError(
                f"{table.path}, series column {columns.series!r} holds {kind}; it must hold text or whole numbers"
            )


def values_of(block: Any, names: tuple[str, ...]) -> NDArray[np.float64]:
    """The value columns, [L, F], with NaN for everything that is not a finite number."""
    values_LF = np.empty((block.num_rows, len(names)))
    for index, name in enumerate(names):
        values_LF[:, index] = block.column(name).cast(pa.float64(), safe=False).to_numpy()
    # Predictions are made in single precision, so what does not fit there is as good as infinite.
    values_LF[~(np.abs(values_LF) <= np.finfo(np.float32).max)] = np.nan
    return values_LF


def times_of(block: Any, name: str) -> Times:
    """The time column as dates or, where it holds numbers, as floats; missing ones are NaT or NaN."""
    column = block.column(name)
    times: Times = (column if _is_time(column.type) else column.cast(pa.float64(), safe=False)).to_numpy()
    return times


def is_number(kind: Any) -> bool:
    """Whether a column of this type can be read as values."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind))


def _is_time(kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_id(kind: Any) -> bool:
    types = pa.types
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return bool(is_text or types.is_integer(kind) or types.is_null(kind))


def _first(table: Table, name: str) -> object:
    """The first value of a column that is not missing."""
    for block in table.blocks([name]):
        for value in block.column(name).to_pylist():
            if value is not None:
                return value
    return None


def _not_a_number(table: Table, name: str) -> str:
    """Point at the first text that is not a number; a column of another type has none."""
    row = 0
    for block in table.blocks([name]):
        for value in block.column(name).to_pylist():
            row += 1
            if isinstance(value, str):
                try:
                    float(value)
                except ValueError:
                    return f"{table.path}, column {name!r}, row {row}: {value!r} is not a number"
    return f"{table.path}, column {name!r} holds {table.schema.field(name).type}; it must hold numbers"


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read: {' '.join(str(error).split())}")


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
