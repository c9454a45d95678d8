"""An hour at half load with a reload every ten seconds: memory and calls.

    python -m benchmarks.soak [--models DIR --model NAME] [--minutes 60] [--every 10] [--transport http2] [--load 0.5]
                              [--out benchmarks/results/soak.md]

Callers first ask as fast as they are answered, for five seconds; then calls arrive by a Poisson process at `--load` of
that. A new version is published and an old one removed every `--every` seconds. Exits non-zero if a call failed or was
answered wrongly, or if the resident memory at the end is more than 2 % above what it was after a tenth of the time.
Without --models it fits and exports the seed example first (needs torch; the server never does).
"""

import argparse
import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.reload import (
    LIMIT_SECONDS,
    MAX_GROWTH,
    SAMPLES,
    SETTLE_SECONDS,
    memory_lines,
    num_threads,
    publish,
    resident_mb,
)
from benchmarks.startup import export_seed_model, free_port
from export.artifact import folder
from export.artifact.folder import Artifact
from nextvalue import AsyncClient, NextvalueError

RESULTS = Path(__file__).parent / "results" / "soak.md"
CALLERS, CLOSED_SECONDS, KEEP = 8, 5.0, 3
CLOSE = 1e-4
# A new version; calls have LIMIT_SECONDS. Long, as the machine may have other work for a while.
SERVED_SECONDS = 120.0


class Traffic:
    """Calls of one window, each held against the first answer to it."""

    def __init__(self, client: AsyncClient, model: str, window: int) -> None:
        self._client = client
        self._model = model
        rng = np.random.default_rng(0)
        self._windows = [(first + np.arange(window)).tolist() for first in rng.uniform(0, 90, 64)]
        self._expected: dict[int, float] = {}
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()
        self.version = 0

    async def ask(self, k: int) -> None:
        """One call, and what became of it."""
        k %= len(self._windows)
        begun = time.perf_counter()
        try:
            prediction = await self._client.predict(self._model, self._windows[k], timeout_seconds=LIMIT_SECONDS)
        except NextvalueError as error:
            self.failures[str(error)] += 1
            return
        self.seconds.append(time.perf_counter() - begun)
        # Replies may pass each other.
        self.version = max(self.version, prediction.version)
        found = float(prediction.values[0])
        if not abs(found - self._expected.setdefault(k, found)) <= CLOSE:
            self.failures["a wrong answer"] += 1

    async def closed(self, seconds: float) -> float:
        """Calls a second of callers that ask as fast as they are answered."""
        end, before = time.perf_counter() + seconds, len(self.seconds)

        async def keep(k: int) -> None:
            while time.perf_counter() < end:
                await self.ask(k)

        await asyncio.gather(*(keep(k) for k in range(CALLERS)))
        return (len(self.seconds) - before) / seconds

    async def arrive(self, rate: float) -> None:
        """Calls at random moments, so many a second, until it is cancelled."""
        rng, due, k = random.Random(7), time.perf_counter(), 0  # noqa: S311 (no secret)
        async with asyncio.TaskGroup() as tasks:
            while True:
                due += rng.expovariate(rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.create_task(self.ask(k))
                k += 1


async def soak(
    target: str, models: Path, original: Artifact, pid: int, options: argparse.Namespace
) -> tuple[Traffic, float, list[float]]:
    """The traffic, what it was a second, and the resident memory after each reload, MB."""
    name, first = original.manifest.name, original.manifest.version
    # Calls of their own: joined ones would be one message.
    async with AsyncClient(target, max_joined_windows=0) as client:
        traffic = Traffic(client, name, original.manifest.window)
        await _start(traffic)
        rate = options.load * await traffic.closed(CLOSED_SECONDS)
        resident = [resident_mb(pid)]
        arriving = asyncio.create_task(traffic.arrive(rate))
        begun = time.perf_counter()
        for number in range(1, round(options.minutes * 60 / options.every) + 1):
            await asyncio.sleep(max(0.0, begun + number * options.every - time.perf_counter()))
            await asyncio.to_thread(publish, models, original, first + number)
            give_up = time.perf_counter() + SERVED_SECONDS
            while traffic.version != first + number:
                if time.perf_counter() > give_up:
                    raise RuntimeError(f"version {first + number} was not served within {SERVED_SECONDS:g} s")
                await asyncio.sleep(0.05)
            if number >= KEEP:
                await asyncio.to_thread(shutil.rmtree, models / name / str(first + number - KEEP))
            # As late as there is time for: what stays is looked at, and not the old one on its way out.
            await asyncio.sleep(max(SETTLE_SECONDS, begun + (number + 0.9) * options.every - time.perf_counter()))
            resident.append(resident_mb(pid))
            print(
                f"{number}: {resident[-1]:.1f} MB, {len(traffic.seconds):,} calls, {traffic.failures.total()} failed",
                file=sys.stderr,
            )
        arriving.cancel()
        await asyncio.wait([arriving])
        return traffic, rate, resident


async def _start(traffic: Traffic) -> None:
    """Until the server answers. Raises RuntimeError if it does not."""
    give_up = time.perf_counter() + LIMIT_SECONDS
    while not traffic.seconds:
        if time.perf_counter() > give_up:
            raise RuntimeError("the server did not start")
        await traffic.ask(0)
        await asyncio.sleep(0.05)
    traffic.failures.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the page, judge. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="a model repository (default: the seed example, fitted now)")
    parser.add_argument("--model", default="seed", help="the model in it, of one feature")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two reloads")
    parser.add_argument("--load", type=float, default=0.5, help="share of what is answered in a closed loop")
    parser.add_argument("--transport", default="http2")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    if options.minutes * 60 / options.every < 2 * SAMPLES:
        parser.error(f"so few reloads show no growth: --minutes and --every must give at least {2 * SAMPLES}")
    with tempfile.TemporaryDirectory() as place:
        source = options.models or export_seed_model(Path(place))
        models = Path(place) / "served"
        newest = max(folder.versions(source / options.model))
        shutil.copytree(source / options.model / str(newest), models / options.model / str(newest))
        original = Artifact(source / options.model / str(newest))
        port = free_port()
        command = [
            sys.executable, "-m", "server", "--models", str(models), "--reference", "off", "--log-level", "error",
            "--grpc", f"127.0.0.1:{port}", "--metrics", "127.0.0.1:0", "--poll-seconds", "1",
            "--transport", options.transport,
        ]  # fmt: skip
        process = subprocess.Popen(command)
        try:
            traffic, rate, resident = asyncio.run(soak(f"127.0.0.1:{port}", models, original, process.pid, options))
            threads = num_threads(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_SECONDS)
    return report(traffic, rate, resident, threads, options)


def report(traffic: Traffic, rate: float, resident: Sequence[float], threads: int, options: argparse.Namespace) -> int:
    """Write the page. Returns the exit status."""
    growth, memory = memory_lines(resident)
    p50, p99 = np.percentile(traffic.seconds, [50, 99]) * 1e3
    lines = [
        "# Soak: calls all the while, a reload now and then",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}",
        "",
        f"{options.minutes:g} minutes, {options.transport}, {rate:.0f} calls a second, {options.load:.0%} of a closed",
        f"loop's; a reload every {options.every:g} s, {KEEP} versions kept. Every answer was held against the",
        f"first of the same window. Resident memory is the median of {SAMPLES} reloads. `python -m benchmarks.soak`",
        "",
        *memory,
        f"- {traffic.failures.total()} of {len(traffic.seconds):,} calls failed; p50 {p50:.2f} ms, p99 {p99:.2f} ms",
        f"- threads in the end: {threads}",
    ]
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n")
    for failure, count in traffic.failures.items():
        print(f"failed {count} times: {failure}", file=sys.stderr)
    return 0 if growth <= MAX_GROWTH and not traffic.failures else 1


if __name__ == "__main__":
    sys.exit(main())
