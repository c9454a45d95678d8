"""The server beside Triton, closed loop: one core for the server, another for the load.

    python -m benchmarks.serving --triton START.sh [--transports http2 grpcio] [--rounds 5] [--seconds 4]
                                 [--out benchmarks/results/serving.md]

The same LSTM (H = 50, one layer): Triton runs ONNX's recurrent node, the fastest graph it can be given at one window.
Both answer the same calls of the Open Inference Protocol, and are held against each other before anything is timed.
Servers are measured by turns, a start each; a figure is the median over rounds, a ratio that of the rounds' ratios.
Without --triton ours stands alone.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.graphs.sides import Array, make_model
from benchmarks.machine import describe_machine
from benchmarks.serving.load import Load, h2load
from benchmarks.serving.servers import Peer, ours, triton
from export.artifact import folder, golden
from export.artifact.folder import GOLDEN
from export.build import describe, lower
from export.evaluate import Reference
from export.gate import golden_cases
from export.lowering.fused import fused
from export.lowering.source import source_of

RESULTS = Path(__file__).parents[1] / "results" / "serving.md"
HIDDEN, WINDOWS = 50, (5, 32)
OURS, TRITON = "ours, ", "Triton 2.51, Python backend"
CLOSE = 1e-5


@dataclass(frozen=True)
class Case:
    """Calls of so many windows, on so many connections with so many in flight each."""

    name: str
    num_windows: int
    connections: int
    in_flight: int


CASES = (
    Case("1 window, 1 at a time", 1, 1, 1),
    Case("1 window, 32 at a time", 1, 4, 8),
    Case("512 windows, 4 at a time", 512, 1, 4),
)


def publish(window: int, models: Path) -> Path:
    """The model as an artifact called `lstm`; returns its graph as Triton's script takes one."""
    model = make_model("lstm", hidden_size=HIDDEN, window=window)
    source = source_of(model)
    lowered = lower(source)
    graphs = {name: proto.SerializeToString() for name, (_, proto) in lowered.items()}
    inputs = {"window": np.random.default_rng(0).standard_normal((64, window, 1)).astype(np.float32)}
    manifest = describe(model, source, {name: graph for name, (graph, _) in lowered.items()}, "lstm", ["value"])
    files = {lowered[name][0].file: data for name, data in graphs.items()} | {
        GOLDEN: golden.encode(golden_cases(model, inputs, list(graphs)))
    }
    folder.publish(models, manifest, files)
    proto = fused(source)[1]
    for node in proto.graph.node:
        node.input[:] = ["x" if name == "window" else name for name in node.input]
        node.output[:] = ["y" if name == "next" else name for name in node.output]
    proto.graph.input[0].name, proto.graph.output[0].name = "x", "y"
    onnx.checker.check_model(proto)
    graph = models.parent / f"triton-{window}.onnx"
    graph.write_bytes(proto.SerializeToString())
    return graph


@contextmanager
def started(name: str, window: int, script: Path | None, work: Path, core: int) -> Iterator[Peer]:
    """One of the two servers, on the model for that window."""
    models = work / str(window) / "models"
    if name.startswith(OURS):
        options = ("--tune", "load", "--transport", name.removeprefix(OURS))
        with ours(models, "lstm", core=core, options=options) as peer:
            yield peer
    else:
        assert script is not None
        with triton(script, models.parent / f"triton-{window}.onnx", window, core=core) as peer:
            yield peer


def measure(peer: Peer, window: int, expected: Array, options: argparse.Namespace, work: Path) -> list[Load]:
    """Every case. Raises RuntimeError if the server answers with other values than expected."""
    windows = windows_for(window)
    off = float(np.abs(peer.answer(windows) - expected).max())
    if not off <= CLOSE:
        raise RuntimeError(f"{peer.name} is off by {off:.3g}; nothing was timed")
    return [
        h2load(
            peer,
            peer.request(windows[: case.num_windows]).SerializeToString(),
            connections=case.connections,
            in_flight=case.in_flight,
            seconds=options.seconds,
            core=options.load_core,
            folder=work,
        )
        for case in CASES
    ]


def windows_for(window: int) -> Array:
    """512 windows, the same for all."""
    return np.random.default_rng(1).standard_normal((512, window, 1)).astype(np.float32)


def rows(window: int, found: dict[str, list[list[Load]]]) -> Iterator[str]:
    """The table's lines, one for each case and server; `found` has a round's cases in each list."""
    for k, case in enumerate(CASES):
        for name, rounds in found.items():
            loads = [one[k] for one in rounds]
            cells = [
                f"T = {window}, {case.name}",
                name,
                f"{statistics.median(load.calls_per_second * case.num_windows for load in loads):,.0f}",
                f"{statistics.median(load.p50_us for load in loads):,.0f}",
                f"{statistics.median(load.p99_us for load in loads):,.0f}",
                f"{statistics.median(load.server_cpu_us for load in loads):,.0f}",
            ]
            if TRITON in found and name != TRITON:
                pairs = list(zip(loads, (one[k] for one in found[TRITON]), strict=True))
                rates = [one.calls_per_second / other.calls_per_second for one, other in pairs]
                times = [one.p50_us / other.p50_us for one, other in pairs]
                cells += [f"{statistics.median(ratios):.2f}" for ratios in (rates, times)]
            else:
                cells += ["–", "–"]
            yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--triton", type=Path, metavar="START.sh", help="starts Triton: START.sh MODEL.onnx T")
    parser.add_argument("--transports", nargs="+", default=["http2", "grpcio"], help="of ours")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each server")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--windows", type=int, nargs="+", default=list(WINDOWS), help="values in a window")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    names = [OURS + transport for transport in options.transports] + [TRITON] * (options.triton is not None)
    figures = ["windows/s", "p50, µs", "p99, µs", "server's CPU a call, µs", "calls/s ÷ Triton", "p50 ÷ Triton"]
    header = ["calls", "server", *figures]
    lines = [
        "# Serving, closed loop",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        f"LSTM, H = {HIDDEN}, one layer. The server on one core, h2load on another; medians of {options.rounds}",
        f"rounds of {options.seconds:g} s, a start of each server in every round. `python -m benchmarks.serving`",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]
    with tempfile.TemporaryDirectory() as folder_name:
        work = Path(folder_name)
        for window in options.windows:
            publish(window, work / str(window) / "models")
            model = make_model("lstm", hidden_size=HIDDEN, window=window)
            expected = Reference(model).window(windows_for(window)).astype(np.float32)
            found: dict[str, list[list[Load]]] = {name: [] for name in names}
            for number in range(options.rounds):
                for name in names:
                    with started(name, window, options.triton, work, options.server_core) as peer:
                        found[name].append(measure(peer, window, expected, options, work))
                    print(f"T = {window}, round {number + 1}, {name}: {found[name][-1]}", file=sys.stderr)
            lines += rows(window, found)
            options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
