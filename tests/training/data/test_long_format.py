"""Many series in one file: which rows belong together, and what is said about each series."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from training.data import DataOptions, Dataset, gap_lines, load
from training.errors import DataError

MIXED = """time,series_id,value,load
2024-01-01,a,1,10
2024-01-01,b,100,7
2024-01-02,a,2,20
2024-01-02,b,200,7
2024-01-03,b,300,7
2024-01-03,a,3,30
"""


def read(folder: Path, text: str, **options: Any) -> Dataset:
    path = folder / "series.csv"
    path.write_text(text)
    return load(DataOptions(source=str(path), **options))


def write(folder: Path, **columns: Any) -> str:
    path = folder / "series.parquet"
    pa.parquet.write_table(pa.table(columns), path)
    return str(path)


def values_of(dataset: Dataset) -> dict[str, list[float]]:
    return {name: series.values[:, 0].tolist() for name, series in zip(dataset.series_ids, dataset.series, strict=True)}


@pytest.mark.parametrize("is_mixed", [True, False])
def test_mixed_and_consecutive_series_are_the_same_series(tmp_path: Path, is_mixed: bool) -> None:
    head, *rows = MIXED.splitlines()
    text = MIXED if is_mixed else "\n".join([head, *sorted(rows, key=lambda row: (row.split(",")[1], row))])
    dataset = read(tmp_path, text, column="value", features=("load",))
    assert values_of(dataset) == {"a": [1, 2, 3], "b": [100, 200, 300]}
    assert dataset.series[0].values[:, 1].tolist() == [10, 20, 30]
    assert dataset.provenance.series == "series_id"
    assert (dataset.provenance.num_series, dataset.provenance.num_rows) == (2, 6)
    for series in dataset.series:
        assert series.time_seconds is not None
        assert np.diff(series.time_seconds).tolist() == [86400, 86400]


def test_series_stand_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "unique_id,x\nz,1\na,2\nm,3\na,4\n").series_ids == ("z", "a", "m")


def test_any_column_can_name_the_series(tmp_path: Path) -> None:
    dataset = read(tmp_path, "host,x\nweb,1\ndb,5\nweb,2\ndb,6\n", series="host")
    assert values_of(dataset) == {"web": [1, 2], "db": [5, 6]}


def test_without_a_column_of_ids_all_rows_are_one_series(tmp_path: Path) -> None:
    dataset = read(tmp_path, "host,x\nweb,1\ndb,5\n")
    assert dataset.series_ids == ()
    assert dataset.provenance.series is None
    assert len(dataset.series) == 1


def test_a_column_of_that_name_can_be_something_else(tmp_path: Path) -> None:
    dataset = read(tmp_path, "x,series_id\n1,5\n2,6\n", column="x", features=("series_id",))
    assert dataset.features == ("x", "series_id")
    assert dataset.series_ids == ()


def test_ids_of_a_csv_file_are_read_as_they_are_written(tmp_path: Path) -> None:
    dataset = read(tmp_path, "series_id,x\n007,1\n7,2\nNA,3\n7.0,4\nnull,5\n")
    assert dataset.series_ids == ("007", "7", "NA", "7.0", "null")


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", "b", "a"]),
        pa.array(["a", "b", "a"], pa.large_string()),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([1, 2, 1], pa.int32()),
        pa.array([1, 2, 1], pa.uint64()),
        pa.array([1, 2, 1]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type)[:20],
)
def test_ids_of_a_parquet_file_may_be_text_or_whole_numbers(tmp_path: Path, ids: Any) -> None:
    dataset = load(DataOptions(source=write(tmp_path, series_id=ids, x=[1.0, 5.0, 2.0])))
    first, second = ("a", "b") if ids.to_pylist()[0] == "a" else ("1", "2")
    assert values_of(dataset) == {first: [1, 2], second: [5]}


def test_a_column_name_with_a_dot_is_a_name(tmp_path: Path) -> None:
    dataset = load(
        DataOptions(source=write(tmp_path, **{"host.id": ["a", "a"], "cpu.util": [1.0, 2.0]}), series="host.id")
    )
    assert values_of(dataset) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (pa.array([0, 1], pa.timestamp("s")), [0, 1]),
        (pa.array([-1, 1_500_000], pa.timestamp("us")), [-1, 1]),
        (pa.array([0, 60_000_000_000], pa.timestamp("ns", tz="Asia/Tokyo")), [0, 60]),
        (pa.array([19_000, 19_001], pa.date32()), [19_000 * 86400, 19_001 * 86400]),
        (pa.array([0, 86_400_000], pa.date64()), [0, 86400]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_times_are_utc_seconds(tmp_path: Path, times: Any, seconds: list[int]) -> None:
    (series,) = load(DataOptions(source=write(tmp_path, when=times, x=[1.0, 2.0]))).series
    assert series.time_seconds is not None
    assert series.time_seconds.tolist() == seconds


def test_a_csv_time_with_a_zone_is_converted_and_one_without_is_taken_as_utc(tmp_path: Path) -> None:
    (zoned,) = read(tmp_path, "t,x\n2024-01-01T02:00:00+02:00,1\n2024-01-01T03:00:00+02:00,2\n").series
    (naive,) = read(tmp_path, "t,x\n2024-01-01T00:00:00,1\n2024-01-01T01:00:00,2\n").series
    assert zoned.time_seconds is not None
    assert naive.time_seconds is not None
    assert zoned.time_seconds.tolist() == naive.time_seconds.tolist() == [1_704_067_200, 1_704_070_800]


def test_numbers_as_times_are_no_seconds(tmp_path: Path) -> None:
    (series,) = read(tmp_path, "year,x\n1700,5\n1701,11\n", time="year").series
    assert series.time_seconds is None


GAPPY = """series_id,t,x
good,2024-01-01,1
good,2024-01-02,2
late,2024-01-01,
late,2024-01-02,20
late,2024-01-03,30
holes,2024-01-01,1
holes,2024-01-03,3
holes,2024-01-04,
holes,,99
holes,2024-01-05,5
holes,2024-01-06,6
empty,2024-01-01,
empty,2024-01-02,
"""


def test_gaps_are_filled_and_counted_for_each_series(tmp_path: Path) -> None:
    dataset = read(tmp_path, GAPPY, gaps="interpolate")
    assert values_of(dataset) == {"good": [1, 2], "late": [20, 30], "holes": [1, 2, 3, 4, 5, 6]}
    known = dataset.provenance
    holes, empty, late = known.series_reports
    assert (holes.id, holes.num_rows, holes.num_rows_missing, holes.num_gaps_filled, holes.num_rows_untimed) == (
        "holes", 6, 1, 2, 1,
    )  # fmt: skip
    assert (late.id, late.num_rows, late.num_rows_trimmed) == ("late", 2, 1)
    assert (empty.id, empty.num_rows, empty.num_rows_trimmed) == ("empty", 0, 2)
    assert (known.num_series, known.num_series_empty, known.num_series_with_gaps, known.num_series_reported) == (
        3, 1, 1, 3,
    )  # fmt: skip
    assert (known.num_rows, known.num_rows_missing, known.num_gaps_filled) == (10, 1, 2)
    assert (known.num_rows_untimed, known.num_rows_trimmed) == (1, 3)
    assert gap_lines(known) == (
        "1 of 3 series have gaps: 1 rows missing, 2 values filled; worst: 'holes' (2)",
        "1 rows without a time dropped; most: 'holes' (1)",
        "3 rows cut at the ends; most: 'empty' (2), 'late' (1)",
        "1 series have no complete row and are left out: 'empty'",
    )


def test_the_targets_of_one_series_do_not_depend_on_the_gaps_of_another(tmp_path: Path) -> None:
    dataset = read(tmp_path, GAPPY, gaps="interpolate")
    assert [series.targetable.tolist() for series in dataset.series] == [
        [True, True],
        [True, True],
        [True, False, False, False, False, True],
    ]


def test_a_series_without_gaps_has_no_report(tmp_path: Path) -> None:
    known = read(tmp_path, MIXED, column="value").provenance
    assert known.series_reports == ()
    assert gap_lines(known) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("series_id,x\na,1\n,2\n", r"series column 'series_id', row 2: the id is missing"),
        (
            "series_id,t,x\na,2024-01-01,1\nb,2024-01-05,1\na,2024-01-02,2\nb,2024-01-04,2\n",
            r"series 'b', time column 't', row 4: 2024-01-04 does not come after 2024-01-05",
        ),
        (
            "series_id,t,x\na,2024-01-01,1\na,2024-01-01,2\n",
            r"series 'a', time column 't', row 2: 2024-01-01 does not come after 2024-01-01",
        ),
        ("series_id,x\na,1\nb,\na,2\nb,\n", r"series 'b', column 'x', row 2: the value is missing.*\(2 such values"),
        (
            "series_id,t,x\nb,2024-01-01,1\na,2024-01-02,1\na,,2\n",
            r"series 'a', time column 't', row 3: the time is mis",
        ),
        (
            "series_id,t,x\na,2024-01-01,1\nb,2024-01-01,1\na,2024-01-02,1\nb,2024-01-02,1\na,2024-01-05,2\n",
            r"series 'a', time column 't', row 5: 2 rows are missing between 2024-01-02 and 2024-01-05",
        ),
        ("series_id,x\n", r"has no row in which 'x' all have a value"),
    ],
)
def test_what_is_wrong_is_said_with_series_and_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text, column="x")
    assert str(caught.value).startswith(str(tmp_path / "series.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.0, 2.0], r"series column 'series_id' holds double; it must hold text or whole numbers"),
        ([None, None], r"series column 'series_id', row 1: the id is missing"),
        (["a", None], r"series column 'series_id', row 2: the id is missing"),
        ([7, None], r"series column 'series_id', row 2: the id is missing"),
        (["a", ""], r"series column 'series_id', row 2: the id is missing"),
        (pa.array(["a", None]).dictionary_encode(), r"series column 'series_id', row 2: the id is missing"),
    ],
)
def test_ids_that_are_none_are_refused(tmp_path: Path, ids: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(DataOptions(source=write(tmp_path, series_id=ids, x=[1.0, 2.0])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series": "host"}, r"--series is 'host'; .* has the columns 'time', 'series_id', 'value', 'load'"),
        ({"column": "value", "series": "value"}, r"'value' is named more than once among .* --series"),
        ({"series": "time", "time": "time"}, r"'time' is named more than once among .* --series"),
    ],
)
def test_a_column_of_ids_that_cannot_be_had_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, MIXED, **{"column": "load"} | options)


def test_the_built_in_examples_have_no_ids() -> None:
    with pytest.raises(DataError, match="'counting' has the one column 'value', no time and no ids"):
        load(DataOptions(source="counting", series="series_id"))
