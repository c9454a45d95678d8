"""Open loop: calls arrive when they will, whether the server keeps up or not.

    python -m benchmarks.serving.overload [--triton START.sh] [--transports http2 grpcio] [--window 32] [--seconds 15]
                                          [--max-queue-ms 75] [--out benchmarks/results/overload.md]

Calls of 512 windows arrive by a Poisson process at shares of what the server answers in a closed loop. A call's time is
counted from when it was to be sent, so that a server that holds the load up does not look fast for it. A refusal is
RESOURCE_EXHAUSTED; any other failure is counted by itself.
"""

import argparse
import asyncio
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import numpy as np

from benchmarks.graphs.sides import Array, make_model
from benchmarks.machine import describe_machine
from benchmarks.serving.__main__ import CLOSE, HIDDEN, OURS, TRITON, publish, started, windows_for
from benchmarks.serving.servers import Peer
from export.evaluate import Reference
from server.pb import open_inference_pb2 as pb

RESULTS = Path(__file__).parents[1] / "results" / "overload.md"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
CONNECTIONS, IN_FLIGHT, NUM_WINDOWS = 8, 4, 512
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


@dataclass
class Outcome:
    """What became of the calls: seconds that the answered and the refused took, others by their code."""

    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    # What is answered later is no goodput: a queue without bounds would have all of it.
    end: float = math.inf
    num_in_time: int = 0

    def line(self, share: float, capacity: float, seconds: float) -> list[str]:
        """The cells of a row."""
        goodput = self.num_in_time / seconds
        return [
            f"{share:.0%}",
            f"{goodput * NUM_WINDOWS:,.0f}",
            f"{goodput / capacity:.0%}",
            _ms(self.answered, 0.5),
            _ms(self.answered, 0.99),
            str(len(self.refused)),
            _ms(self.refused, 0.5),
            _ms(self.refused, 0.99),
            ", ".join(f"{code} {count}" for code, count in self.others.items()) or "0",
        ]


def _ms(seconds: Sequence[float], share: float) -> str:
    return f"{1000 * sorted(seconds)[int(share * (len(seconds) - 1))]:.1f}" if seconds else "–"


class Load:
    """Calls on several connections, held against what is right."""

    def __init__(self, peer: Peer, window: int, expected: Array) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), OWN_CONNECTION]
        self._channels = [grpc.aio.insecure_channel(peer.target, options) for _ in range(CONNECTIONS)]
        self._calls: list[Any] = [
            channel.unary_unary(METHOD, response_deserializer=pb.ModelInferResponse.FromString)
            for channel in self._channels
        ]
        self._peer = peer
        self._expected = expected
        self._body = peer.request(windows_for(window)).SerializeToString()

    async def close(self) -> None:
        """End the connections."""
        for channel in self._channels:
            await channel.close()

    async def ask(self, k: int, due: float, outcome: Outcome) -> None:
        """One call that was due at `due`, and what became of it."""
        try:
            reply = await self._calls[k % CONNECTIONS](self._body, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                outcome.refused.append(perf_counter() - due)
            else:
                outcome.others[error.code().name] = outcome.others.get(error.code().name, 0) + 1
            return
        now = perf_counter()
        outcome.answered.append(now - due)
        outcome.num_in_time += now <= outcome.end
        place = next(i for i, output in enumerate(reply.outputs) if output.name == self._peer.output)
        found = np.frombuffer(reply.raw_output_contents[place], "<f4")
        if not np.abs(found - self._expected.ravel()).max() <= CLOSE:
            outcome.wrong += 1

    async def closed(self, seconds: float) -> float:
        """Calls a second with a few always in flight."""
        outcome, end = Outcome(), perf_counter() + seconds

        async def keep(k: int) -> None:
            while perf_counter() < end:
                await self.ask(k, perf_counter(), outcome)

        await asyncio.gather(*(keep(k) for k in range(IN_FLIGHT)))
        return len(outcome.answered) / seconds

    async def open(self, rate: float, seconds: float) -> Outcome:
        """Calls that arrive at `rate` a second."""
        gaps = np.random.default_rng(7).exponential(1 / rate, int(2 * rate * seconds) + 100)
        due = perf_counter() + 0.05 + np.cumsum(gaps)
        end = float(due[0]) + seconds
        outcome, tasks = Outcome(end=end), []
        for k, moment in enumerate(due[due < end].tolist()):
            await asyncio.sleep(max(0.0, moment - perf_counter()))
            tasks.append(asyncio.create_task(self.ask(k, moment, outcome)))
        await asyncio.gather(*tasks)
        return outcome


async def measure(peer: Peer, window: int, expected: Array, seconds: float) -> list[tuple[float, float, Outcome]]:
    """Every share, what the server answers in a closed loop right before, calls a second, and what comes of the share.

    Raises RuntimeError on a wrong answer.
    """
    load = Load(peer, window, expected)
    try:
        await load.closed(2)
        found = []
        for share in SHARES:
            capacity = await load.closed(4)
            found.append((share, capacity, await load.open(share * capacity, seconds)))
            await asyncio.sleep(1)
            print(f"{peer.name}, {share:.0%} of {capacity:.0f} calls/s", file=sys.stderr)
    finally:
        await load.close()
    if wrong := sum(outcome.wrong for _, _, outcome in found):
        raise RuntimeError(f"{peer.name}: {wrong} answers were wrong")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.overload", description=__doc__.splitlines()[0])
    parser.add_argument("--triton", type=Path, metavar="START.sh", help="starts Triton: START.sh MODEL.onnx T")
    parser.add_argument("--transports", nargs="+", default=["http2", "grpcio"], help="of ours")
    parser.add_argument("--window", type=int, default=32, help="values in a window")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load")
    parser.add_argument("--max-queue-ms", type=int, default=75, help="of ours")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    names = [OURS + transport for transport in options.transports] + [TRITON] * (options.triton is not None)
    header = [
        "server", "arrive", "answered windows/s", "of its closed loop", "p50, ms", "p99, ms",
        "refused", "a refusal's p50, ms", "p99, ms", "other failures",
    ]  # fmt: skip
    lines = [
        "# Overload: open loop, 512 windows a call",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        f"LSTM, H = {HIDDEN}, T = {options.window}. Poisson arrivals for {options.seconds:g} s at shares of what the",
        f"same server answered right before, with {IN_FLIGHT} in flight. Server on one core, load (grpc.aio) on",
        f"another; ours with `--max-queue-ms {options.max_queue_ms}`.",
        "`python -m benchmarks.serving.overload`",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]  # fmt: skip
    os.environ["NEXTVALUE_MAX_QUEUE_MS"] = str(options.max_queue_ms)
    os.sched_setaffinity(0, {options.load_core})
    with tempfile.TemporaryDirectory() as folder_name:
        work = Path(folder_name)
        publish(options.window, work / str(options.window) / "models")
        model = make_model("lstm", hidden_size=HIDDEN, window=options.window)
        expected = Reference(model).window(windows_for(options.window)).astype(np.float32)
        for name in names:
            with started(name, options.window, options.triton, work, options.server_core) as peer:
                found = asyncio.run(measure(peer, options.window, expected, options.seconds))
            for share, capacity, outcome in found:
                lines.append(f"| {' | '.join([name, *outcome.line(share, capacity, options.seconds)])} |")
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
