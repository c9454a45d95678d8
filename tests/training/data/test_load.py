"""Reading files: what is recognised, and one clear error for everything that is not."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from training.data import DataOptions, Dataset, load
from training.errors import DataError

TEXT = """time,value,load
2024-01-01 00:00:00,1,10
2024-01-01 00:30:00,2,20
2024-01-01 01:00:00,3.5,30
2024-01-01 01:30:00,4,40
"""


def read(folder: Path, text: str, name: str = "series.csv", **options: Any) -> Dataset:
    path = folder / name
    path.write_text(text)
    return load(DataOptions(source=str(path), **options))


def test_target_covariates_time_and_digest(tmp_path: Path) -> None:
    dataset = read(tmp_path, TEXT, column="value", features=("load",))
    (series,) = dataset.series
    assert dataset.features == ("value", "load")
    assert series.values.tolist() == [[1, 10], [2, 20], [3.5, 30], [4, 40]]
    assert series.time_seconds is not None
    start = 1_704_067_200  # date -u -d 2024-01-01 +%s
    assert series.time_seconds.tolist() == [start, start + 1800, start + 3600, start + 5400]
    assert dataset.provenance.time == "time"
    assert dataset.provenance.num_rows == 4
    assert dataset.provenance.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()


def test_the_only_value_column_needs_no_name(tmp_path: Path) -> None:
    assert read(tmp_path, TEXT, features=("value",)).features == ("load", "value")


def test_parquet_reads_the_same_as_csv(tmp_path: Path) -> None:
    times = np.arange("2024-01-01", "2024-01-05", dtype="datetime64[D]")
    pa.parquet.write_table(pa.table({"day": times, "x": [1, 2, 4, 8]}), tmp_path / "series.parquet")
    from_parquet = load(DataOptions(source=str(tmp_path / "series.parquet")))
    from_csv = read(tmp_path, "day,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n2024-01-04,8\n")
    assert from_parquet.features == from_csv.features == ("x",)
    assert from_parquet.provenance.time == from_csv.provenance.time == "day"
    np.testing.assert_array_equal(from_parquet.series[0].values, from_csv.series[0].values)


def test_a_number_can_be_the_time(tmp_path: Path) -> None:
    dataset = read(tmp_path, "year,spots\n1700,5\n1701,11\n1702,16\n", time="year")
    assert dataset.features == ("spots",)


def test_whole_numbers_may_turn_into_fractions_late_in_a_long_file(tmp_path: Path) -> None:
    """Column types are guessed from the first block of about a megabyte."""
    rows = [f"{100000000 + i}" for i in range(200_000)] + ["0.5"]
    assert read(tmp_path, "x\n" + "\n".join(rows) + "\n").series[0].values[-1, 0] == 0.5


GAPPY = """time,x
2024-01-01,1
2024-01-02,
2024-01-03,3
2024-01-04,inf
2024-01-05,5
2024-01-08,8
,99
2024-01-10,10
"""


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("interpolate", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), ("ffill", [1, 1, 3, 3, 5, 5, 5, 8, 8, 10])],
)
def test_empty_infinite_missing_and_untimed_rows_are_all_gaps(
    tmp_path: Path, policy: str, expected: list[float]
) -> None:
    dataset = read(tmp_path, GAPPY, gaps=policy)
    assert dataset.series[0].values[:, 0].tolist() == expected
    assert dataset.provenance.num_gaps_filled == 5
    assert dataset.provenance.num_rows_untimed == 1
    assert dataset.series[0].time_seconds is not None
    assert np.diff(dataset.series[0].time_seconds).tolist() == [86400] * 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n1\nNaN\n3\n", r"column 'x', row 2: the value is missing, infinite .*1 such values.*--gaps"),
        ("x\n1\n-inf\n3\n", r"column 'x', row 2: the value is missing, infinite"),
        ("x\n1\n1e39\n3\n", r"column 'x', row 2: .* beyond single precision"),
        ("x,t\n1,2024-01-01\n2,\n3,2024-01-03\n", r"time column 't', row 2: the time is missing"),
        (
            "t,x\n2024-01-01,1\n2024-01-02,1\n2024-01-03,1\n2024-01-06,2\n",
            r"time column 't', row 4: 2 rows are missing between 2024-01-03 and 2024-01-06 \(2 in all\)",
        ),
        ("t,x\n2024-01-02,1\n2024-01-01,2\n", r"time column 't', row 2: 2024-01-01 does not come after 2024-01-02"),
        ("a,b\n1,2\n", r"has 2 value columns \('a', 'b'\); choose the target with --column"),
        ("a\nx\ny\n", r"has 0 value columns \(none\)"),
        ("x,x\n1,2\n", r"names the column 'x' more than once"),
        ("", r"is empty \(0 bytes\)"),
        ("x\n", r"has no row in which 'x' all have a value|has 0 value columns"),
        ("a,b\n1,2\n3\n", r"cannot be read: .*Expected 2 columns, got 1"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "cpu"}, r"--column is 'cpu'; .* has the columns 'time', 'value', 'load'"),
        ({"column": "value", "features": ("gpu",)}, r"--features is 'gpu'; .* has the columns"),
        ({"column": "value", "time": "when"}, r"--time is 'when'; .* has the columns"),
        ({"column": "value", "features": ("value",)}, r"column 'value' is named more than once"),
        ({"column": "time"}, r"column 'time' holds timestamp"),
    ],
)
def test_a_column_that_cannot_be_had_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, TEXT, **options)


def test_text_among_the_numbers_is_refused_by_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'x', row 2: 'n\.a\. today' is not a number"):
        read(tmp_path, "x\n1\nn.a. today\n3\n", column="x")


def test_text_as_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"time column 't', row 1: '1/2/24' is string; it must be ISO 8601"):
        read(tmp_path, "t,x\n1/2/24,1\n", time="t")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.csv", "missing.csv is not a file"),
        ("series.xlsx", r"ends in '\.xlsx'; a data file must end in \.csv or \.parquet"),
        ("countng", "--data is 'countng'; it must be a .csv or .parquet file, or one of counting, counting-steps"),
    ],
)
def test_a_source_that_is_none_is_refused(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataOptions(source=source))


def test_a_file_that_only_calls_itself_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"series\.parquet cannot be read: "):
        read(tmp_path, TEXT, "series.parquet")


def test_a_timeline_with_more_holes_than_rows_is_refused(tmp_path: Path) -> None:
    text = "t,x\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n2031-01-01,4\n"
    with pytest.raises(DataError, match="at most half of a timeline can be filled"):
        read(tmp_path, text, gaps="ffill")


def test_options_of_files_do_not_fit_the_built_in_examples() -> None:
    with pytest.raises(DataError, match=re.escape("'counting' has the one column 'value'")):
        load(DataOptions(source="counting", features=("x",)))


@pytest.mark.parametrize(("field", "value"), [("gaps", "zero"), ("spacing", "odd")])
def test_unknown_words_are_refused(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is '{value}'; it must be one of"):
        DataOptions(**{"source": "counting", field: value})  # type: ignore[arg-type]
