"""Start of the server to its first answer, and its peak memory: one small artifact, one worker, reference off.

    python -m benchmarks.startup [--models DIR --model NAME] [--runs 7] [--core 0] > benchmarks/results/startup.md

Prints a table and exits non-zero if the median start is above 1.0 s or the highest peak above 130 MB.
Without --models it fits and exports the seed example first (needs torch; the server never does).
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from nextvalue import Client, NextvalueError

MAX_SECONDS = 1.0
MAX_MB = 130.0


@dataclass(frozen=True)
class Start:
    """One start: seconds from exec to the first right answer, and the peak resident set in MB (10⁶ bytes)."""

    seconds: float
    peak_mb: float


def export_seed_model(folder: Path) -> Path:
    """Fit the seed example briefly and publish it as `seed`; returns the repository."""
    run, models = folder / "run", folder / "models"
    fit = ["--data", "counting", "--cell", "lstm", "--hidden", "50", "--transform", "difference", "--epochs", "3"]
    for command in (
        ["training", "fit", *fit, "--out", str(run), "--quiet"],
        ["export", "--run", str(run), "--models", str(models), "--name", "seed"],
    ):
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    return models


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(models: Path, model: str, core: int | None) -> Start:
    """Start a server, poll until it predicts, read its peak memory, stop it."""
    port = free_port()
    command = [
        sys.executable, "-m", "server", "--models", str(models), "--reference", "off", "--log-level", "warning",
        "--grpc", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0",
    ]  # fmt: skip
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    started = time.perf_counter()
    process = subprocess.Popen([*pinned, *command])
    try:
        seconds = _first_answer(process, port, model, started)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    finally:
        process.terminate()
        process.wait(timeout=30)
    return Start(seconds, peak_kib * 1024 / 1e6)


def _first_answer(process: "subprocess.Popen[bytes]", port: int, model: str, started: float) -> float:
    """Seconds until a window was answered. A bare connect is polled first: a channel would back off."""
    while time.perf_counter() - started < 30:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.1).close()
            break
        except OSError:
            time.sleep(0.002)
    with Client(f"127.0.0.1:{port}") as client:
        while time.perf_counter() - started < 30:
            try:
                client.predict(model, [45.0, 46.0, 47.0, 48.0, 49.0], timeout_seconds=1.0)
            except NextvalueError:
                time.sleep(0.002)
            else:
                return time.perf_counter() - started
    raise RuntimeError("no answer within 30 s")


def main() -> int:
    """Measure, print, judge. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="a model repository (default: the seed example, fitted now)")
    parser.add_argument("--model", default="seed", help="the model in it, of window 5 and one feature")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--core", type=int, help="pin the server to this core")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = options.models or export_seed_model(Path(folder))
        measure(models, options.model, options.core)  # once for the page cache
        starts = [measure(models, options.model, options.core) for _ in range(options.runs)]
    seconds = [start.seconds for start in starts]
    peaks = [start.peak_mb for start in starts]
    print("# Start of the server: one small artifact (LSTM, H=50, T=5), one worker, reference off\n")
    print(f"{describe_machine('onnxruntime', 'grpcio')}; {options.runs} starts with warm files.\n")
    print("| | min | median | max | limit |\n|---|---|---|---|---|")
    for name, values, limit in (("start to first answer, s", seconds, MAX_SECONDS), ("peak memory, MB", peaks, MAX_MB)):
        print(f"| {name} | {min(values):.3g} | {statistics.median(values):.3g} | {max(values):.3g} | {limit:g} |")
    good = statistics.median(seconds) <= MAX_SECONDS and max(peaks) <= MAX_MB
    print("\nwithin the limits" if good else "\nOUTSIDE the limits")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
