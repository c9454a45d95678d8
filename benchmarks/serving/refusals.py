"""What a refusal of a single window costs, beside an answer: a closed loop that fits, and one that is far too much.

    python -m benchmarks.serving.refusals [--rounds 5] [--out benchmarks/results/refusals.md]

With single windows a call costs its way through HTTP/2, not its run, so that refusing one saves little. The server is
asked with 32 calls in flight, of which all are answered, and with 1,024 in flight while only 64 windows may wait. From
the processor time of a call in either and from how many the metrics page says were refused follows what one costs.

Of http2: grpcio takes calls up one by one as it gets to them; they wait in front of it, and none is refused here.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.serving.__main__ import publish, windows_for
from benchmarks.serving.load import Counted, h2load_calls
from benchmarks.serving.servers import Peer, ours
from benchmarks.serving.workers import counted
from benchmarks.startup import free_port

RESULTS = Path(__file__).parents[1] / "results" / "refusals.md"
WINDOW, CONNECTIONS = 5, 8
FITS, TOO_MANY = 4, 128  # in flight on each connection
MAX_QUEUE_WINDOWS = 64
CALLS = 40_000


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Calls that fitted, calls that did not, and how many of these were answered and refused."""

    fitting: Counted
    pressing: Counted
    answered: int
    refused: int

    @property
    def refusal_us(self) -> float:
        """The server's processor time of a refusal."""
        total = self.pressing.server_cpu_us * (self.answered + self.refused)
        return (total - self.fitting.server_cpu_us * self.answered) / self.refused

    @property
    def goodput(self) -> float:
        """Windows answered a second under too many calls."""
        return self.pressing.calls_per_second * self.answered / (self.answered + self.refused)


def turn(work: Path, transport: str) -> Turn:
    """Both loads on a server just started. Raises RuntimeError unless every call has one of the two statuses."""
    port = free_port()
    options = (
        "--transport", transport, "--metrics", f"127.0.0.1:{port}", "--tune", "load",
        "--max-queue-windows", str(MAX_QUEUE_WINDOWS),
    )  # fmt: skip
    page = f"http://127.0.0.1:{port}/metrics"

    def load(peer: Peer, in_flight: int) -> Counted:
        body = peer.request(windows_for(WINDOW)[:1]).SerializeToString()
        return h2load_calls(peer, body, calls=CALLS, connections=CONNECTIONS, in_flight=in_flight, folder=work)

    with ours(work / str(WINDOW) / "models", "lstm", core=0, options=options) as peer:
        peer.answer(windows_for(WINDOW)[:1])
        load(peer, FITS)
        fitting = load(peer, FITS)
        fitted = counted(page)
        pressing = load(peer, TOO_MANY)
        answered, refused = counted(page) - fitted, counted(page, "RESOURCE_EXHAUSTED")
    if fitted != 2 * CALLS + 1:
        raise RuntimeError(f"{transport}: of {2 * CALLS + 1} calls that fit {fitted} were answered")
    if answered + refused != CALLS or not refused:
        raise RuntimeError(f"{transport}: of {CALLS} calls {answered} were answered and {refused} refused")
    return Turn(fitting=fitting, pressing=pressing, answered=answered, refused=refused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.refusals", description=__doc__.splitlines()[0])
    parser.add_argument("--transports", nargs="+", default=["http2"])
    parser.add_argument("--rounds", type=int, default=5, help="starts of each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    lines = [
        "# Refusals of single windows",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        f"LSTM, H = 50, one window of T = {WINDOW} a call, h2load on {CONNECTIONS} connections, server on one core.",
        f"{CONNECTIONS * FITS} in flight: all answered. {CONNECTIONS * TOO_MANY} in flight, {MAX_QUEUE_WINDOWS} may",
        f"wait: most refused, every call with one clear status. Medians of {options.rounds} starts.",
        "`python -m benchmarks.serving.refusals`",
        "",
        "| transport | answered/s, all fit | CPU, µs each | answered/s, too many | refused | CPU of a refusal, µs |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        publish(WINDOW, work / str(WINDOW) / "models")
        found: dict[str, list[Turn]] = {transport: [] for transport in options.transports}
        for _ in range(options.rounds):
            for transport, turns in found.items():
                turns.append(turn(work, transport))
                print(f"{transport}: {turns[-1]}", file=sys.stderr)
    for transport, turns in found.items():
        cells = [
            transport,
            f"{statistics.median(each.fitting.calls_per_second for each in turns):,.0f}",
            f"{statistics.median(each.fitting.server_cpu_us for each in turns):,.0f}",
            f"{statistics.median(each.goodput for each in turns):,.0f}",
            f"{statistics.median(each.refused / CALLS for each in turns):.0%}",
            f"{statistics.median(each.refusal_us for each in turns):,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
