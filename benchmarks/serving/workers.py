"""Two workers on two cores beside one worker that may use both.

    python -m benchmarks.serving.workers [--transports http2 grpcio] [--rounds 5] [--out benchmarks/results/workers.md]

512 windows of T = 32 a call on 128 connections, and single windows of T = 5. The load takes what it takes of the
same two cores and is counted. After each start the metrics page must have counted exactly the calls made.
"""

import argparse
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.serving.__main__ import publish, windows_for
from benchmarks.serving.load import Counted, h2load_calls
from benchmarks.serving.servers import ours
from benchmarks.startup import free_port

RESULTS = Path(__file__).parents[1] / "results" / "workers.md"
CONNECTIONS = 128
# Values in a window, windows of a call, and calls a turn.
CASES = ((32, 512, 1500), (5, 1, 30_000))
HEADER = (
    "calls", "transport", "workers", "windows/s", "÷ one worker's", "calls per server CPU second", "÷ one worker's",
    "load's share of a core",
)  # fmt: skip


def counted(page: str, code: str = "OK") -> int:
    """ModelInfer calls with that status that the metrics page knows of."""
    series = f'nextvalue_requests_total{{code="{code}",model="lstm",rpc="ModelInfer"'
    with urllib.request.urlopen(page, timeout=10) as reply:  # noqa: S310 (our own)
        lines = reply.read().decode().splitlines()
    return sum(round(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(series))


def turn(work: Path, transport: str, workers: int, case: tuple[int, int, int]) -> Counted:
    """A start, and so many calls. Raises RuntimeError if one failed, or the page counts another number."""
    window, num_windows, calls = case
    port = free_port()
    options = ("--transport", transport, "--workers", str(workers), "--metrics", f"127.0.0.1:{port}", "--tune", "load")
    with ours(work / str(window) / "models", "lstm", core="0,1", options=options) as peer:
        windows = windows_for(window)[:num_windows]
        peer.answer(windows)
        body = peer.request(windows).SerializeToString()
        found = h2load_calls(peer, body, calls=calls, connections=CONNECTIONS, in_flight=1, folder=work)
        known = counted(f"http://127.0.0.1:{port}/metrics")
    if known != calls + 1:
        raise RuntimeError(f"{calls + 1} calls were made, and the page has {known}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.workers", description=__doc__.splitlines()[0])
    parser.add_argument("--transports", nargs="+", default=["http2", "grpcio"])
    parser.add_argument("--rounds", type=int, default=5, help="starts of each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    lines = [
        "# Two workers and one",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        f"LSTM, H = 50, {CONNECTIONS} connections with one call in flight each, by h2load on the same two cores;",
        f"medians of {options.rounds} starts of each, by turns. After each the page had counted just the calls made.",
        "`python -m benchmarks.serving.workers`",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for case in CASES:
            window, num_windows, _ = case
            publish(window, work / str(window) / "models")
            for transport in options.transports:
                found: dict[int, list[Counted]] = {1: [], 2: []}
                for _ in range(options.rounds):
                    for workers, turns in found.items():
                        turns.append(turn(work, transport, workers, case))
                        print(f"T = {window}, {transport}, {workers}: {turns[-1]}", file=sys.stderr)
                for workers, turns in found.items():
                    pairs = list(zip(turns, found[1], strict=True))
                    cells = [
                        f"T = {window}, {num_windows} window{'s' * (num_windows > 1)}",
                        transport,
                        str(workers),
                        f"{statistics.median(each.calls_per_second for each in turns) * num_windows:,.0f}",
                        f"{statistics.median(each.calls_per_second / one.calls_per_second for each, one in pairs):.2f}",
                        f"{1e6 / statistics.median(each.server_cpu_us for each in turns):,.0f}",
                        f"{statistics.median(one.server_cpu_us / each.server_cpu_us for each, one in pairs):.2f}",
                        f"{statistics.median(each.load_share for each in turns):.0%}",
                    ]
                    lines.append(f"| {' | '.join(cells)} |")
                options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
