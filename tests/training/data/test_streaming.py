"""A Parquet file too large for memory: read in blocks, kept on disk, and the same in everything that comes of it."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data import DataOptions, Dataset, Parts, SplitOptions, cache, load, spill, split_windows, table
from training.errors import DataError


class File(NamedTuple):
    """A file's columns, how it is written and how it is asked for."""

    columns: dict[str, Any]
    row_group_size: int
    options: dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    """Blocks of a few rows, so that series, gaps and row groups cross them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "ROWS_PER_BLOCK", 3)
        patch.setattr(spill, "ROWS_AT_ONCE", 7)
        patch.setattr(cache, "ROWS_AT_ONCE", 4)
        yield


@st.composite
def files(draw: st.DrawFn) -> File:
    """Up to four series of a few rows, with holes in values and timeline, one after the other or mixed."""
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    layout = draw(st.sampled_from(["consecutive", "by time", "anyhow"]))
    is_flawed = draw(st.booleans())
    codes = np.repeat(np.arange(len(lengths)), lengths)
    places = np.concatenate(
        [np.sort(rng.permutation(length + is_flawed * (length // 3))[:length]) for length in lengths]
    )
    if layout == "by time":
        order = np.argsort(places, kind="stable")
    else:
        order = np.argsort(rng.permutation(codes) if layout == "anyhow" else codes, kind="stable")
        if layout == "anyhow":
            # A random order of series, each series' own rows in theirs.
            shuffled = rng.permutation(codes)
            order = np.empty(len(codes), dtype=np.int64)
            for code in range(len(lengths)):
                order[shuffled == code] = np.flatnonzero(codes == code)
    codes, places = codes[order], places[order]
    values = rng.normal(0, 10.0 ** rng.integers(-3, 6), (len(codes), 2))
    times: Any = np.datetime64("2024-03-01", "ms") + 1_800_000 * places
    if is_flawed:
        values[rng.random(values.shape) < 0.1] = np.nan
        times = pa.array(times, mask=rng.random(len(times)) < 0.03)
    kind = draw(st.sampled_from(["dates", "numbers", "none"]))
    columns: dict[str, Any] = {"x": values[:, 0], "y": values[:, 1]}
    if kind != "none":
        columns["t"] = times if kind == "dates" else places.astype(np.float64)
    if len(lengths) > 1 or draw(st.booleans()):
        columns["series_id"] = [f"series {code}" for code in codes]
    policy = draw(st.sampled_from(["error", "ffill", "interpolate"])) if is_flawed else "error"
    features = ("y",) if draw(st.booleans()) else ()
    options = {"column": "x", "features": features, "gaps": policy, "time": "t" if kind == "numbers" else None}
    return File(columns, draw(st.integers(1, 20)), options)


def write(file: File, folder: Path) -> DataOptions:
    path = folder / "series.parquet"
    pa.parquet.write_table(pa.table(file.columns), path, row_group_size=file.row_group_size)
    return DataOptions(source=str(path), **file.options)


def outcome(options: DataOptions, *, is_streamed: bool) -> Dataset | str:
    try:
        return load(options, memory_limit_bytes=0 if is_streamed else 2**30)
    except DataError as error:
        return str(error)


@given(files())
@settings(max_examples=150, deadline=None)
def test_streamed_and_in_memory_are_the_same(file: File) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = write(file, Path(folder))
        whole, streamed = outcome(options, is_streamed=False), outcome(options, is_streamed=True)
    if isinstance(whole, str) or isinstance(streamed, str):
        assert whole == streamed
        return
    with streamed:
        assert streamed.series_ids == whole.series_ids
        assert streamed.provenance == whole.provenance
        assert streamed.features == whole.features
        for one, other in zip(streamed.series, whole.series, strict=True):
            np.testing.assert_array_equal(one.values, other.values.astype(np.float32))
            np.testing.assert_array_equal(one.targetable, other.targetable)
            assert (one.time_seconds is None) == (other.time_seconds is None)
            np.testing.assert_array_equal(one.time_seconds, other.time_seconds)
        _compare_windows(streamed, whole)


def parts_of(dataset: Dataset) -> Parts | str:
    try:
        return split_windows(dataset, SplitOptions(), 2)
    except DataError as error:
        return str(error)


def _compare_windows(streamed: Dataset, whole: Dataset) -> None:
    parts, expected = parts_of(streamed), parts_of(whole)
    if isinstance(parts, str) or isinstance(expected, str):
        assert parts == expected
        return
    for part, other in zip(parts, expected, strict=True):
        assert part.rows.tolist() == other.rows.tolist()
        # One by one, and at once where they follow each other.
        for chosen in (np.arange(len(part))[::-1], np.arange(len(part))):
            one, two = part.batch(chosen), other.batch(chosen, np.float32)
            assert one.windows.dtype == np.float32
            for field, same in zip(one, two, strict=True):
                assert (field is None) == (same is None)
                np.testing.assert_array_equal(field, same)
        np.testing.assert_array_equal(part.windows(), other.windows().astype(np.float32))
        np.testing.assert_array_equal(part.values, other.values.astype(np.float32))
        np.testing.assert_array_equal(part.largest, other.largest)


def mixed_file(folder: Path, num_rows: int = 40) -> DataOptions:
    """Two series, turn about, a row every minute."""
    times = np.datetime64("2024-01-01", "s") + 60 * (np.arange(num_rows) // 2)
    columns = {"series_id": ["a", "b"] * (num_rows // 2), "t": times, "x": np.arange(float(num_rows))}
    return write(File(columns, 8, {}), folder)


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (27, {"t": None}, r"series 'b', time column 't', row 28: the time is missing"),
        (
            27,
            {"t": np.datetime64("2024-01-01", "s").item()},
            r"series 'b', time column 't', row 28: .* does not come",
        ),
        (13, {"x": None}, r"series 'b', column 'x', row 14: the value is missing"),
        (30, {"series_id": None}, r"series column 'series_id', row 31: the id is missing"),
    ],
)
def test_errors_name_the_row_of_the_file(tmp_path: Path, row: int, changes: dict[str, Any], message: str) -> None:
    options = mixed_file(tmp_path)
    columns = pa.parquet.read_table(options.source).to_pydict()
    for name, value in changes.items():
        columns[name][row] = value
    options = write(File(columns, 8, {}), tmp_path)
    with pytest.raises(DataError, match=message):
        load(options, memory_limit_bytes=0)


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with load(
        mixed_file(tmp_path), progress=lambda what, done, total: told.append((what, done, total)), memory_limit_bytes=0
    ):
        pass
    for what in ("counting rows", "reading rows"):
        done = [count for name, count, _ in told if name == what]
        assert done == sorted(done)
        assert done[-1] == 40
    assert {total for _, _, total in told} == {40}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_temporary_file_has_no_name_and_goes_with_the_dataset(tmp_path: Path, temporary: Path) -> None:
    dataset = load(mixed_file(tmp_path), memory_limit_bytes=0)
    found = split_windows(dataset, SplitOptions(), 2).fit
    assert len(dataset.series[1].values) == 20
    # A kill leaves nothing behind: no name leads to the file.
    assert left_in(temporary) == []
    dataset.close()
    dataset.close()
    with pytest.raises(DataError, match="the dataset is closed; its rows can no longer be read"):
        found.batch(np.array([0]))


def test_a_forgotten_dataset_is_closed(tmp_path: Path) -> None:
    dataset = load(mixed_file(tmp_path), memory_limit_bytes=0)
    rows = split_windows(dataset, SplitOptions(), 2).fit.store
    assert isinstance(rows, cache.FileRows)
    file = rows._records.file
    del dataset, rows
    gc.collect()
    assert file.closed


def test_a_failed_reading_closes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    temporary_file = tempfile.TemporaryFile

    def remembered(**options: Any) -> Any:
        made.append(temporary_file(**options))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remembered)
    options = mixed_file(tmp_path)
    columns = pa.parquet.read_table(options.source).to_pydict()
    columns["x"][39] = None
    with pytest.raises(DataError, match="row 40"):
        load(write(File(columns, 8, {}), tmp_path), memory_limit_bytes=0)
    gc.collect()
    assert len(made) == 2
    assert all(file.closed for file in made)


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    message = rf"series.parquet does not fit into memory and needs 1.44e-06 GB of disk in {temporary}, where 1e-07 GB"
    with pytest.raises(DataError, match=message):
        load(mixed_file(tmp_path), memory_limit_bytes=0)


def test_a_disk_that_fills_up_is_told_in_one_line(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match=f"cannot be kept in {temporary}: No space left on device; TMPDIR names"):
        load(mixed_file(tmp_path), memory_limit_bytes=0)


def test_small_files_and_csv_stay_in_memory(tmp_path: Path) -> None:
    options = mixed_file(tmp_path)
    assert split_windows(load(options), SplitOptions(), 2).fit.values.dtype == np.float64
    (tmp_path / "series.csv").write_text("x\n" + "\n".join(map(str, range(100))))
    dataset = load(DataOptions(source=str(tmp_path / "series.csv")), memory_limit_bytes=0)
    assert split_windows(dataset, SplitOptions(), 2).fit.values.dtype == np.float64


def test_a_limit_counts_the_chosen_columns_and_the_times(tmp_path: Path) -> None:
    """40 rows of a value and a time of 8 bytes each."""
    options = mixed_file(tmp_path)
    for limit, dtype in ((640, np.float64), (639, np.float32)):
        with load(options, memory_limit_bytes=limit) as dataset:
            assert split_windows(dataset, SplitOptions(), 2).fit.values.dtype == dtype


def test_a_parquet_file_broken_in_the_middle_is_refused(tmp_path: Path) -> None:
    options = mixed_file(tmp_path, 4000)
    path = Path(options.source)
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"series\.parquet cannot be read: ") as caught:
        load(options, memory_limit_bytes=0)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_without_a_row_is_refused(tmp_path: Path) -> None:
    options = write(File({"x": pa.array([], pa.float64())}, 1, {}), tmp_path)
    with pytest.raises(DataError, match="has no row in which 'x' all have a value"):
        load(options)
