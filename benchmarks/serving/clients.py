"""Concurrent callers of one window each: our client on our server, tritonclient's on Triton.

    python -m benchmarks.serving.clients --triton START.sh [--transport http2] [--rounds 9] [--seconds 1]
                                         [--out benchmarks/results/clients.md]

What a program gets that asks for many series at once, its client included. Ours joins the calls made while one is in
flight; tritonclient sends each by itself. Both servers are up at once, on one core, and asked by turns from another.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.graphs.sides import Array, make_model
from benchmarks.machine import describe_machine
from benchmarks.serving.__main__ import CLOSE, HIDDEN, OURS, TRITON, publish, started, windows_for
from benchmarks.serving.callers import rate
from export.evaluate import Reference
from nextvalue import AsyncClient

RESULTS = Path(__file__).parents[1] / "results" / "clients.md"
WINDOW = 5
CALLERS = (1, 8, 32, 128)


async def ours(target: str, windows: Array, expected: Array, num_callers: int, seconds: float) -> float:
    """Calls a second of callers that ask again as soon as they are answered. Raises RuntimeError on a wrong answer."""
    async with AsyncClient(target) as client:

        async def ask(k: int) -> None:
            prediction = await client.predict("lstm", windows[k, :, 0], timeout_seconds=30)
            if not abs(prediction.values[0] - expected[k, 0]) <= CLOSE:
                raise RuntimeError(f"window {k}: a wrong answer")

        return await rate(ask, num_callers, seconds)


def theirs(target: str, work: Path, num_callers: int, seconds: float) -> float:
    """The same by tritonclient. Raises CalledProcessError on a wrong answer."""
    arrays = [str(work / "windows.npy"), str(work / "expected.npy")]
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving.peers.triton_callers",
        target,
        *arrays,
        str(num_callers),
        str(seconds),
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.clients", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--triton", type=Path, required=True, metavar="START.sh", help="starts Triton: START.sh MODEL T"
    )
    parser.add_argument("--transport", default="http2", help="of ours")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {options.load_core})
    found: dict[int, list[tuple[float, float]]] = {callers: [] for callers in CALLERS}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        publish(WINDOW, work / str(WINDOW) / "models")
        windows = windows_for(WINDOW)
        expected = Reference(make_model("lstm", hidden_size=HIDDEN, window=WINDOW)).window(windows).astype(np.float32)
        np.save(work / "windows.npy", windows)
        np.save(work / "expected.npy", expected)
        with (
            started(OURS + options.transport, WINDOW, None, work, options.server_core) as own,
            started(TRITON, WINDOW, options.triton, work, options.server_core) as triton,
        ):
            for callers, turns in found.items():
                for _ in range(options.rounds):
                    one = asyncio.run(ours(own.target, windows, expected, callers, options.seconds))
                    turns.append((one, theirs(triton.target, work, callers, options.seconds)))
                    print(f"{callers} callers: {turns[-1]}", file=sys.stderr)
    lines = [
        "# Concurrent callers of one process",
        "",
        f"{describe_machine('onnxruntime', 'grpcio', 'tritonclient')}.",
        "",
        f"One window of T = {WINDOW} a call, LSTM, H = {HIDDEN}. Our `AsyncClient` on our server,",
        f"{options.transport}; tritonclient's asyncio client on {TRITON}. Servers on one core, callers on another;",
        f"medians of {options.rounds} turns of {options.seconds:g} s, every answer checked.",
        "`python -m benchmarks.serving.clients`",
        "",
        "| callers | ours, calls/s | tritonclient, calls/s | ours ÷ tritonclient |",
        "|---|---|---|---|",
    ]
    for callers, turns in found.items():
        one, other = (statistics.median(each[k] for each in turns) for k in (0, 1))
        ratio = statistics.median(a / b for a, b in turns)
        lines.append(f"| {callers} | {one:,.0f} | {other:,.0f} | {ratio:.2f} |")
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
