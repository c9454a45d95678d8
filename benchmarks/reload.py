"""Memory and calls of a server while version after version is published: one small artifact, one worker, reference off.

    python -m benchmarks.reload [--models DIR --model NAME] [--reloads 200] [--keep 3] [--out PAGE] [--core 0]

Each version is written and renamed as the exporter does it, and all but the newest `--keep` are removed. The server
looks at the folder every 50 ms, and has a second after each version to let the old one go; one caller asks all the
while, one window a call. Exits non-zero if a call failed, or if the resident memory at the end is more than 2 % above
what it was after the first tenth of the reloads.
Without --models it fits and exports the seed example first (needs torch; the server never does).
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.startup import export_seed_model, free_port
from export.artifact import folder
from export.artifact.folder import Artifact
from nextvalue import Client, NextvalueError

RESULTS = Path(__file__).parent / "results" / "reload.md"
POLL_SECONDS = 0.05
LIMIT_SECONDS = 30.0
MAX_GROWTH = 0.02
# Resident memory breathes by a few pages from reload to reload.
SAMPLES = 10
# The new version answers while the old is being let go: it is what stays that is looked at.
SETTLE_SECONDS = 1.0
# Of the reloads: what they have in common, allocators included, is there after so many.
WARM_SHARE = 0.1


@dataclass
class Traffic:
    """One caller that asks all the while."""

    target: str
    model: str
    window: list[float]
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    version: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Until `done`."""
        with Client(self.target) as client:
            while not self.done.is_set():
                begun = time.perf_counter()
                try:
                    self.version = client.predict(self.model, self.window).version
                except NextvalueError as error:
                    self.failures.append(str(error))
                self.seconds.append(time.perf_counter() - begun)

    def await_version(self, version: int) -> None:
        """Wait for an answer of it. Raises RuntimeError if none comes."""
        give_up = time.perf_counter() + LIMIT_SECONDS
        while self.version != version:
            if time.perf_counter() > give_up:
                raise RuntimeError(f"version {version} was not served within {LIMIT_SECONDS:g} s")
            time.sleep(0.002)


def publish(models: Path, original: Artifact, version: int) -> None:
    """The original under another number."""
    contents = {name: original.read(name) for name in original.manifest.files}
    folder.publish(models, msgspec.structs.replace(original.manifest, version=version), contents)


def resident_mb(pid: int) -> float:
    """A process's resident set, 10⁶ bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) * 1024 / 1e6


def num_threads(pid: int) -> int:
    """A process's threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def reload_often(
    traffic: Traffic, models: Path, original: Artifact, pid: int, *, reloads: int, keep: int
) -> list[float]:
    """Publish version after version. Returns the resident memory at the start and after each, MB."""
    first = original.manifest.version
    traffic.await_version(first)
    resident = [resident_mb(pid)]
    for version in range(first + 1, first + 1 + reloads):
        publish(models, original, version)
        traffic.await_version(version)
        time.sleep(SETTLE_SECONDS)
        resident.append(resident_mb(pid))
        if version - keep > first:
            shutil.rmtree(models / original.manifest.name / str(version - keep))
    return resident


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the page, judge. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="a model repository (default: the seed example, fitted now)")
    parser.add_argument("--model", default="seed", help="the model in it, of one feature")
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--keep", type=int, default=3, help="versions that stay in the folder")
    parser.add_argument("--core", type=int, help="pin the server to this core")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        source = options.models or export_seed_model(Path(name))
        models = Path(name) / "served"
        newest = max(folder.versions(source / options.model))
        shutil.copytree(source / options.model / str(newest), models / options.model / str(newest))
        # Read from the source: here it will be removed.
        original = Artifact(source / options.model / str(newest))
        port = free_port()
        pinned = [] if options.core is None else ["taskset", "-c", str(options.core)]
        command = [
            sys.executable, "-m", "server", "--models", str(models), "--reference", "off", "--log-level", "error",
            "--grpc", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", "--poll-seconds", str(POLL_SECONDS),
        ]  # fmt: skip
        window = [float(value) for value in range(45, 45 + original.manifest.window)]
        traffic = Traffic(f"127.0.0.1:{port}", options.model, window)
        process = subprocess.Popen([*pinned, *command])
        caller = threading.Thread(target=traffic.ask)
        try:
            await_start(process, traffic)
            caller.start()
            begun = time.perf_counter()
            resident = reload_often(traffic, models, original, process.pid, reloads=options.reloads, keep=options.keep)
            seconds = time.perf_counter() - begun
            threads = num_threads(process.pid)
        finally:
            traffic.done.set()
            if caller.is_alive():
                caller.join()
            process.terminate()
            process.wait(timeout=LIMIT_SECONDS)
    return report(traffic, resident, seconds, threads, keep=options.keep, out=options.out)


def await_start(process: "subprocess.Popen[bytes]", traffic: Traffic) -> None:
    """Until the server answers. Raises RuntimeError if it does not."""
    give_up = time.perf_counter() + LIMIT_SECONDS
    with Client(traffic.target) as client:
        while time.perf_counter() < give_up and process.poll() is None:
            try:
                client.predict(traffic.model, traffic.window, timeout_seconds=1.0)
            except NextvalueError:
                time.sleep(0.05)
            else:
                return
    raise RuntimeError("the server did not start")


def memory_lines(resident: Sequence[float]) -> tuple[float, list[str]]:
    """How much memory grew, as a share, and a table of it; `resident` at the start and after each reload, MB."""
    reloads = len(resident) - 1
    warm = max(SAMPLES, round(WARM_SHARE * reloads))

    def around(reload: int) -> float:
        """The median of the last few reloads up to that one."""
        return statistics.median(resident[max(1, reload - SAMPLES + 1) : reload + 1])

    marks = sorted({warm, *(round(reloads * share) for share in (0.25, 0.5, 0.75, 1.0))})
    growth = around(reloads) / around(warm) - 1
    return growth, [
        "| | resident, MB |",
        "|---|---|",
        f"| at the start, one version | {resident[0]:.1f} |",
        *(f"| after {mark} reloads | {around(mark):.1f} |" for mark in marks),
        "",
        f"- growth from {warm} to {reloads} reloads: {growth:+.2%}, limit {MAX_GROWTH:.0%}",
    ]


def report(traffic: Traffic, resident: Sequence[float], seconds: float, threads: int, *, keep: int, out: Path) -> int:
    """Write the page. Returns the exit status."""
    reloads = len(resident) - 1
    growth, memory = memory_lines(resident)
    p50, p99 = np.percentile(traffic.seconds, [50, 99]) * 1e3
    calls = (
        f"{len(traffic.failures)} of {len(traffic.seconds):,} calls failed; "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {max(traffic.seconds) * 1e3:.0f} ms"
    )
    mean_ms = (seconds / reloads - SETTLE_SECONDS) * 1e3
    lines = [
        "# Reloads under traffic: one small artifact, one worker, reference off",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}",
        "",
        f"{reloads} versions, {keep} kept in the folder, a look every {POLL_SECONDS:g} s; one caller on the same",
        f"machine. Resident memory is the median of {SAMPLES} reloads. `python -m benchmarks.reload`",
        "",
        *memory,
        f"- {calls}",
        f"- from the start of a publication to the first answer of it: {mean_ms:.0f} ms on average",
        f"- threads in the end: {threads}",
    ]
    print("\n".join(lines))
    out.write_text("\n".join(lines) + "\n")
    for failure in sorted(set(traffic.failures)):
        print(f"failed: {failure}", file=sys.stderr)
    good = growth <= MAX_GROWTH and not traffic.failures
    print("\nwithin the limits" if good else "\nOUTSIDE the limits")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
