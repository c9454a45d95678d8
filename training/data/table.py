"""Files to named columns: reading CSV and Parquet, and choosing among what they hold."""

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


class Columns(NamedTuple):
    """The names to read: the values (target first) and, where there is one, the time."""

    values: tuple[str, ...]
    time: str | None


def read_table(path: Path) -> Any:
    """The file as a pyarrow Table. Raises DataError where it is missing, empty or cannot be read."""
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}; a data file must end in {' or '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path} is not a file; give an existing CSV or Parquet file")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    try:
        table = _read_csv(path) if path.suffix.lower() == ".csv" else pa.parquet.read_table(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    repeated = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if repeated:
        raise DataError(f"{path} names the column {repeated[0]!r} more than once")
    return table


def _read_csv(path: Path) -> Any:
    """Types are guessed from the first block alone, so whole numbers there are read as floats: later ones may be."""
    guessed = pa.csv.open_csv(path).schema
    as_floats = {
        field.name: pa.float64() for field in guessed if pa.types.is_integer(field.type) or pa.types.is_null(field.type)
    }
    return pa.csv.read_csv(
        path,
        # One thread, so that an error names the row.
        read_options=pa.csv.ReadOptions(use_threads=False),
        convert_options=pa.csv.ConvertOptions(column_types=as_floats),
    )


def choose_columns(
    path: Path, table: Any, *, column: str | None, features: tuple[str, ...], time: str | None
) -> Columns:
    """Which columns to read. Raises DataError for one that is missing, named twice or left open."""
    for option, name in (("--column", column), ("--time", time), *(("--features", name) for name in features)):
        if name is not None and name not in table.column_names:
            raise DataError(f"{option} is {name!r}; {path} has the columns {_listed(table.column_names)}")
    if time is None:
        time = next((f.name for f in table.schema if _is_time(f.type) and f.name not in (column, *features)), None)
    if column is None:
        open_names = [f.name for f in table.schema if _is_number(f.type) and f.name not in (time, *features)]
        if len(open_names) != 1:
            raise DataError(
                f"{path} has {len(open_names)} value columns ({_listed(open_names)}); choose the target with --column"
            )
        column = open_names[0]
    chosen = [column, *features, *([time] if time is not None else [])]
    repeated = [name for name in chosen if chosen.count(name) > 1]
    if repeated:
        raise DataError(f"column {repeated[0]!r} is named more than once among --column, --features and --time")
    return Columns(values=(column, *features), time=time)


def values_of(path: Path, table: Any, names: tuple[str, ...]) -> NDArray[np.float64]:
    """The value columns, [L, F], with NaN for everything that is not a finite number."""
    values_LF = np.empty((table.num_rows, len(names)))
    for index, name in enumerate(names):
        column = table.column(name)
        if not _is_number(column.type):
            raise DataError(_not_a_number(path, name, column))
        values_LF[:, index] = column.cast(pa.float64(), safe=False).to_numpy()
    # Predictions are made in single precision, so what does not fit there is as good as infinite.
    values_LF[~(np.abs(values_LF) <= np.finfo(np.float32).max)] = np.nan
    return values_LF


def times_of(path: Path, table: Any, name: str) -> Times:
    """The time column as dates or, where it holds numbers, as floats; missing ones are NaT or NaN."""
    column = table.column(name)
    if _is_time(column.type):
        times: NDArray[np.datetime64] = column.to_numpy()
        return times
    if _is_number(column.type):
        numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
        return numbers
    raise DataError(
        f"{path}, time column {name!r}, row 1: {_first(column)!r} is {column.type}; "
        "it must be ISO 8601 (2014-07-01 00:30:00) or a number"
    )


def _is_time(kind: Any) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_number(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind))


def _first(column: Any) -> object:
    return next((value for value in column.to_pylist() if value is not None), None)


def _not_a_number(path: Path, name: str, column: Any) -> str:
    """Point at the first text that is not a number; a column of another type has none."""
    for row, value in enumerate(column.to_pylist(), start=1):
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                return f"{path}, column {name!r}, row {row}: {value!r} is not a number"
    return f"{path}, column {name!r} holds {column.type}; it must hold numbers"


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
