"""The benchmark of peak memory, on files small enough for a test."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from benchmarks import data_memory
from benchmarks.data_memory import Measurement, drawn_out, main, write_file


def measured(num_bytes: float, peak_bytes: float) -> Measurement:
    return Measurement(
        what="data alone", layout="mixed", num_bytes=int(num_bytes), num_rows=1, peak_bytes=int(peak_bytes), seconds=1
    )


def test_the_line_is_drawn_out_from_the_measurements() -> None:
    peak, slope = drawn_out([measured(0.25e9, 150e6), measured(0.5e9, 200e6), measured(1e9, 300e6)])
    assert peak == pytest.approx(1.1e9)
    assert slope == pytest.approx(0.2)


@pytest.mark.parametrize("layout", ["consecutive", "mixed"])
def test_files_have_about_the_size_asked_for(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "series.parquet"
    num_rows = write_file(path, 2**21, 50, layout)
    assert path.stat().st_size == pytest.approx(2**21, rel=0.3)
    table = pa.parquet.read_table(path)
    assert table.num_rows == num_rows
    ids = table.column("series_id").to_pylist()
    assert len(set(ids)) == 50
    assert len(set(ids[:10])) == (10 if layout == "mixed" else 1)


@pytest.mark.parametrize(("limit", "status"), [(2e9, 0), (1e6, 1)])
def test_measures_prints_and_judges(
    limit: float, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_memory, "LIMIT_BYTES", limit)
    assert main(["--sizes-mib", "1", "--series", "10", "--layout", "mixed"]) == status
    printed = capsys.readouterr().out
    assert "| data alone | mixed | 1 |" in printed
    assert printed.endswith("OUTSIDE the limit\n" if status else "within the limit\n")


def test_a_process_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    broken = tmp_path / "series.parquet"
    broken.write_bytes(b"no")
    with pytest.raises(RuntimeError, match=r"--read .*series\.parquet ended with status 1"):
        data_memory.measure_file(broken, 1, "mixed", with_fit=False)
