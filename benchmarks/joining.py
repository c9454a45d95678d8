"""Concurrent callers of one `AsyncClient`, each asking for one window at a time: calls/s with joining and without.

    python -m benchmarks.joining [--models DIR --model NAME] [--rounds 5] [--seconds 3] > benchmarks/results/joining.md

The server is a process of its own on 127.0.0.1, reference off. Variants are measured in turn, round after round, so
that a slow minute of the machine meets all of them; figures are medians over rounds.
Without --models it fits and exports the seed example first (needs torch; neither server nor client does).
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.startup import export_seed_model, free_port
from nextvalue import AsyncClient, NextvalueError
from nextvalue.aio import DEFAULT_MAX_JOINED_WINDOWS

CALLERS = (1, 2, 8, 32, 128)
# Windows in a joined message.
VARIANTS = {"off": 0, "on": DEFAULT_MAX_JOINED_WINDOWS}


@dataclass(frozen=True)
class Load:
    """What callers got in one run: calls/s, median and 99th percentile of the time to an answer, and calls/message."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    calls_per_message: float


@contextmanager
def server(models: Path) -> Iterator[tuple[str, str]]:
    """A server process; its target, and the address of its metrics page."""
    grpc_port, metrics_port = free_port(), free_port()
    command = [
        sys.executable, "-m", "server", "--models", str(models), "--reference", "off", "--log-level", "warning",
        "--provider", "cpu", "--grpc", f"127.0.0.1:{grpc_port}", "--metrics", f"127.0.0.1:{metrics_port}",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        yield f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{metrics_port}/metrics"
    finally:
        process.terminate()
        process.wait(timeout=30)


def num_messages(page: str) -> float:
    """How many Predict messages the server has answered."""
    with urllib.request.urlopen(page, timeout=10) as reply:  # noqa: S310 (our own)
        lines = reply.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("nextvalue_requests_total{") and 'rpc="Predict"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts)


async def await_answer(target: str, model: str) -> None:
    """Polls until the model answers."""
    async with AsyncClient(target) as client:
        give_up = time.perf_counter() + 60
        while True:
            try:
                await client.predict(model, [45.0, 46.0, 47.0, 48.0, 49.0], timeout_seconds=1.0)
            except NextvalueError:
                if time.perf_counter() > give_up:
                    raise
                await asyncio.sleep(0.05)
            else:
                return


async def measure(
    target: str, page: str, model: str, max_joined_windows: int, *, num_callers: int, seconds: float
) -> Load:
    """Callers that ask again as soon as they are answered."""
    times: list[float] = []

    async def call_on(client: AsyncClient, end: float, first: float) -> None:
        window = [first + k for k in range(5)]
        while (started := time.perf_counter()) < end:
            prediction = await client.predict(model, window, timeout_seconds=30.0)
            times.append(time.perf_counter() - started)
            if prediction.values.shape != (1,):
                raise RuntimeError(f"an answer of shape {prediction.values.shape}")

    async with AsyncClient(target, max_joined_windows=max_joined_windows) as client:
        await client.predict(model, [45.0, 46.0, 47.0, 48.0, 49.0], timeout_seconds=30.0)  # connects
        before, started = num_messages(page), time.perf_counter()
        await asyncio.gather(*(call_on(client, started + seconds, 100.0 * n) for n in range(num_callers)))
        took = time.perf_counter() - started
    percentiles = statistics.quantiles(times, n=100)
    return Load(
        calls_per_second=len(times) / took,
        p50_ms=1e3 * percentiles[49],
        p99_ms=1e3 * percentiles[98],
        calls_per_message=len(times) / (num_messages(page) - before),
    )


async def measure_all(target: str, page: str, model: str, rounds: int, seconds: float) -> dict[tuple[int, str], Load]:
    """Every number of callers with every variant; medians over the rounds."""
    await await_answer(target, model)
    found: dict[tuple[int, str], list[Load]] = {}
    for number in range(rounds):
        for num_callers in CALLERS:
            for variant, most in VARIANTS.items():
                load = await measure(target, page, model, most, num_callers=num_callers, seconds=seconds)
                found.setdefault((num_callers, variant), []).append(load)
                print(f"round {number + 1}: {num_callers} callers, {variant}: {load}", file=sys.stderr)
    return {place: median(loads) for place, loads in found.items()}


def median(loads: list[Load]) -> Load:
    """Each figure's median by itself."""
    return Load(*(statistics.median(getattr(load, field.name) for load in loads) for field in fields(Load)))


def main() -> int:
    """Measure and print. Returns the exit status: whether joining pays at 32 callers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joining", description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="a model repository (default: the seed example, fitted now)")
    parser.add_argument("--model", default="seed", help="the model in it, of window 5 and one feature")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = options.models or export_seed_model(Path(folder))
        with server(models) as (target, page):
            loads = asyncio.run(measure_all(target, page, options.model, options.rounds, options.seconds))
    print("# Joined calls: one window a call, all callers on one asyncio client (LSTM, H=50, T=5)\n")
    print(
        f"{describe_machine('onnxruntime', 'grpcio')}; client and server share the machine; medians of "
        f"{options.rounds} runs of {options.seconds:g} s, variants in turn.\n"
    )
    print(
        "| callers | joining | calls/s | ÷ off | p50, ms | p99, ms | calls a message |\n|---|---|---|---|---|---|---|"
    )
    for (num_callers, variant), load in loads.items():
        ratio = load.calls_per_second / loads[num_callers, "off"].calls_per_second
        print(
            f"| {num_callers} | {variant} | {load.calls_per_second:,.0f} | {ratio:.2f} | {load.p50_ms:.2f} "
            f"| {load.p99_ms:.2f} | {load.calls_per_message:.1f} |"
        )
    return 0 if loads[32, "on"].calls_per_second > loads[32, "off"].calls_per_second else 1


if __name__ == "__main__":
    sys.exit(main())
