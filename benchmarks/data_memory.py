"""Peak memory of a fit on Parquet files of many series, fitted as a line over their sizes and drawn out to 5 GB.

    python -m benchmarks.data_memory [--sizes-mib 256,512,1024] [--series 2000] [--layout consecutive|mixed|both]
                                     [--with-fit] > benchmarks/results/data-memory.md

Writes each file to a temporary folder (TMPDIR), reads it in a fresh process as a fit does (load, split, the sample that
scales are taken of, batches of 256 random windows of 48 values) and prints the process's peak resident set. With
`--with-fit`, `python -m training fit` follows on the same file. Exits non-zero if a line is above 2 GB at 5 GB.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from benchmarks.machine import describe_machine

LIMIT_BYTES = 2e9
DRAWN_OUT_TO_BYTES = 5e9
WINDOW = 48
BATCH = 256
NUM_BATCHES = 300
FIT_STEPS = 100
SCALE_SAMPLE = 2**24
ROWS_AT_ONCE = 2**18
BYTES_PER_ROW = 14
TOLERATED_SIZE = 0.05
MAX_WRITES = 4
LAYOUTS = ("consecutive", "mixed")
EXPLAINED = f"""\
- data alone: load, split, the sample that scales are taken of, {NUM_BATCHES} batches of random windows
- fit: `python -m training fit`, {FIT_STEPS} steps, 10 rows of each series for validation and 10 for the test
- consecutive: one series after the other; mixed: in order of time, sorted by series in a temporary file
"""
SCHEMA = pa.schema([("series_id", pa.string()), ("time", pa.timestamp("s")), ("value", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One process: what it read, its peak resident set in bytes and how long it took."""

    what: str
    layout: str
    num_bytes: int
    num_rows: int
    peak_bytes: int
    seconds: float


def write_file(path: Path, num_bytes: int, num_series: int, layout: str) -> int:
    """About `num_bytes` of Parquet: series after series, or mixed, in order of time. Returns the number of rows."""
    # What a row takes depends on how many there are, so the number is put right until the size is.
    num_rows = max(num_series, int(num_bytes / BYTES_PER_ROW))
    for _ in range(MAX_WRITES):
        num_rows = _write(path, num_rows, num_series, layout)
        size = path.stat().st_size
        if abs(size - num_bytes) < TOLERATED_SIZE * num_bytes:
            break
        num_rows = int(num_rows * num_bytes / size)
    return num_rows


def _write(path: Path, num_rows: int, num_series: int, layout: str) -> int:
    rng = np.random.default_rng(0)
    length = max(1, num_rows // num_series)
    ids = np.array([f"series-{number:06d}" for number in range(num_series)])
    times = np.datetime64("2020-01-01", "s") + 60 * np.arange(length)
    with pa.parquet.ParquetWriter(path, SCHEMA) as writer:
        if layout == "mixed":
            for chunk in np.array_split(times, max(1, num_series * length // ROWS_AT_ONCE)):
                columns = [np.tile(ids, len(chunk)), np.repeat(chunk, num_series)]
                writer.write_table(pa.table([*columns, _values(rng, len(columns[0]))], schema=SCHEMA))
        else:
            for group in np.array_split(ids, max(1, num_series * length // ROWS_AT_ONCE)):
                columns = [np.repeat(group, length), np.tile(times, len(group))]
                writer.write_table(pa.table([*columns, _values(rng, len(columns[0]))], schema=SCHEMA))
    return num_series * length


def _values(rng: np.random.Generator, num_rows: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Noise, which does not compress: eight bytes a value."""
    return rng.normal(100, 1, num_rows)


def read_as_a_fit_does(path: Path) -> None:
    """The data's way into a fit, without the model."""
    from training.data import DataOptions, SplitOptions, epoch_order, load, split_windows  # noqa: PLC0415 (timed)

    with load(DataOptions(source=str(path))) as dataset:
        fit = split_windows(dataset, SplitOptions(), WINDOW).fit
        fit.windows(SCALE_SAMPLE // WINDOW)
        order = epoch_order(len(fit), seed=0, epoch=1, limit=NUM_BATCHES * BATCH)
        for start in range(0, len(order), BATCH):
            fit.batch(order[start : start + BATCH], np.float32)


def measure(command: Sequence[str]) -> tuple[int, float]:
    """Run a command in a process of its own: its peak resident set in bytes, and seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_maxrss * 1024, time.perf_counter() - started


def measure_file(path: Path, num_rows: int, layout: str, *, with_fit: bool) -> list[Measurement]:
    """Read the file, and fit on it where asked to."""
    commands = {"data alone": [sys.executable, "-m", "benchmarks.data_memory", "--read", str(path)]}
    if with_fit:
        commands["fit"] = [
            sys.executable, "-m", "training", "fit", "--data", str(path), "--window", str(WINDOW), "--hidden", "16",
            "--epochs", "1", "--batch-size", str(BATCH), "--epoch-windows", str(BATCH * FIT_STEPS),
            "--validation", "10", "--test", "10", "--out", str(path.with_suffix(".run")), "--force", "--quiet",
        ]  # fmt: skip
    found = []
    for what, command in commands.items():
        peak_bytes, seconds = measure(command)
        found.append(
            Measurement(
                what=what,
                layout=layout,
                num_bytes=path.stat().st_size,
                num_rows=num_rows,
                peak_bytes=peak_bytes,
                seconds=seconds,
            )
        )
    return found


def drawn_out(measurements: Sequence[Measurement]) -> tuple[float, float]:
    """The least-squares line of peak over size: bytes at DRAWN_OUT_TO_BYTES, and bytes more for each byte more."""
    sizes = [one.num_bytes for one in measurements]
    peaks = [one.peak_bytes for one in measurements]
    slope, start = np.polyfit(sizes, peaks, 1) if len(set(sizes)) > 1 else (0.0, max(peaks))
    return float(start + slope * DRAWN_OUT_TO_BYTES), float(slope)


def report(measurements: Sequence[Measurement], num_series: int) -> bool:
    """Print the table and the lines. Returns whether all are within the limit."""
    print(f"# Peak memory of a fit on Parquet files of {num_series} series\n")
    print(f"{describe_machine('pyarrow', 'numpy')}; window {WINDOW}, batches of {BATCH}.\n")
    print(EXPLAINED)
    print("| | layout | file, MB | rows | peak, MB | seconds |\n|---|---|---|---|---|---|")
    for one in measurements:
        cells = (one.what, one.layout, f"{one.num_bytes / 1e6:.0f}", f"{one.num_rows:,}", f"{one.peak_bytes / 1e6:.0f}")
        print(f"| {' | '.join(cells)} | {one.seconds:.0f} |")
    print()
    good = True
    for what, layout in dict.fromkeys((one.what, one.layout) for one in measurements):
        peak, slope = drawn_out([one for one in measurements if (one.what, one.layout) == (what, layout)])
        good &= peak <= LIMIT_BYTES
        print(
            f"- {what}, {layout}: the line gives {peak / 1e6:.0f} MB at {DRAWN_OUT_TO_BYTES / 1e9:g} GB "
            f"({slope * 1e3:+.1f} MB for each GB more), limit {LIMIT_BYTES / 1e6:.0f} MB"
        )
    print("\nwithin the limit" if good else "\nOUTSIDE the limit")
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_memory", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sizes-mib", default="256,512,1024", help="sizes of the files, in MiB")
    parser.add_argument("--series", type=int, default=2000, help="series in each file")
    parser.add_argument("--layout", choices=(*LAYOUTS, "both"), default="both", help="how series stand in the file")
    parser.add_argument("--with-fit", action="store_true", help="also run `python -m training fit` on each file")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.read is not None:
        read_as_a_fit_does(options.read)
        return 0
    measurements = []
    for layout in LAYOUTS if options.layout == "both" else (options.layout,):
        for size in options.sizes_mib.split(","):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "series.parquet"
                num_rows = write_file(path, int(float(size) * 2**20), options.series, layout)
                measurements += measure_file(path, num_rows, layout, with_fit=options.with_fit)
    return 0 if report(sorted(measurements, key=lambda one: (one.what, one.layout)), options.series) else 1


if __name__ == "__main__":
    sys.exit(main())
