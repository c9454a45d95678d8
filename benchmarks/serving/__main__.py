"""The server beside Triton, mlserver and KServe, closed loop: one core for the servers, another for the load.

    python -m benchmarks.serving --triton START.sh [--transports http2 grpcio] [--busy-poll-us 1000] [--no-libraries]
                                 [--rounds 5] [--seconds 1] [--venvs FOLDER] [--out benchmarks/results/serving.md]

The same LSTM (H = 50, one layer): the others run ONNX's recurrent node, the fastest graph they can be given at one
window. All answer the same calls of the Open Inference Protocol, and are held against each other before anything is
timed. All are up at once, and loaded by turns, so that a slow moment of the machine meets all; a figure is the median
over the rounds, a ratio that of the rounds' ratios. Without --triton the others stand alone.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.environment import environment
from benchmarks.graphs.sides import Array, make_model
from benchmarks.machine import describe_machine
from benchmarks.serving.load import Load, h2load
from benchmarks.serving.servers import Peer, kserve, mlserver, ours, triton
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
BUSY = ", busy poll"
LIBRARIES = {"mlserver": "1.7.1", "kserve": "0.21.0"}
ORT = "onnxruntime==1.31.1"
# By server: the rounds of each case.
Found = dict[str, list[list[Load]]]
VENVS = Path(__file__).parents[1] / ".venvs"
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
def started(
    name: str, window: int, script: Path | None, work: Path, core: int, *, venvs: Path = VENVS, busy_poll_us: int = 0
) -> Iterator[Peer]:
    """One of the servers, on the model for that window."""
    models = work / str(window) / "models"
    graph = models.parent / f"triton-{window}.onnx"
    if name.startswith(OURS):
        options: tuple[str, ...] = ("--tune", "load", "--transport", name.removeprefix(OURS).removesuffix(BUSY))
        if name.endswith(BUSY):
            options += ("--busy-poll-us", str(busy_poll_us))
        opened = ours(models, "lstm", core=core, options=options)
    elif name in LIBRARIES:
        steps = [[f"{name}=={LIBRARIES[name]}", ORT]]
        python = environment(venvs, name, LIBRARIES[name], steps, lambda text: print(text, file=sys.stderr))
        opened = (mlserver if name == "mlserver" else kserve)(python, graph, core=core)
    else:
        assert script is not None
        opened = triton(script, graph, window, core=core)
    with opened as peer:
        yield peer


def check(peer: Peer, window: int, expected: Array) -> None:
    """Raises RuntimeError if the server answers with other values than expected."""
    off = float(np.abs(peer.answer(windows_for(window)) - expected).max())
    if not off <= CLOSE:
        raise RuntimeError(f"{peer.name} is off by {off:.3g}; nothing was timed")


def measure(peers: dict[str, Peer], window: int, options: argparse.Namespace, work: Path) -> Found:
    """Every case and round by server, turn by turn; a case's rounds lie in a list."""
    found: Found = {name: [] for name in peers}
    for case in CASES:
        for name in peers:
            found[name].append([])
        for number in range(options.rounds):
            for name, peer in peers.items():
                body = peer.request(windows_for(window)[: case.num_windows]).SerializeToString()
                found[name][-1].append(
                    h2load(
                        peer,
                        body,
                        connections=case.connections,
                        in_flight=case.in_flight,
                        seconds=options.seconds,
                        core=options.load_core,
                        folder=work,
                    )
                )
                print(f"T = {window}, {case.name}, round {number + 1}, {name}: {found[name][-1][-1]}", file=sys.stderr)
    return found


def windows_for(window: int) -> Array:
    """512 windows, the same for all."""
    return np.random.default_rng(1).standard_normal((512, window, 1)).astype(np.float32)


def rows(window: int, found: Found) -> Iterator[str]:
    """The table's lines, one for each case and server."""
    for k, case in enumerate(CASES):
        for name, cases in found.items():
            loads = cases[k]
            cells = [
                f"T = {window}, {case.name}",
                name,
                f"{statistics.median(load.calls_per_second * case.num_windows for load in loads):,.0f}",
                f"{statistics.median(load.p50_us for load in loads):,.0f}",
                f"{statistics.median(load.p99_us for load in loads):,.0f}",
                f"{statistics.median(load.server_cpu_us for load in loads):,.0f}",
            ]
            if TRITON in found and name != TRITON:
                pairs = list(zip(loads, found[TRITON][k], strict=True))
                rates = [one.calls_per_second / other.calls_per_second for one, other in pairs]
                times = [one.p50_us / other.p50_us for one, other in pairs]
                cells += [f"{statistics.median(ratios):.2f}" for ratios in (rates, times)]
            else:
                cells += ["–", "–"]
            yield f"| {' | '.join(cells)} |"


def beside_libraries(found: Found) -> Iterator[str]:
    """How many times the calls of each library ours answers, 32 in flight."""
    k = next(k for k, case in enumerate(CASES) if case.num_windows == 1 and case.connections > 1)
    for name in found:
        if name.startswith(OURS):
            ratios = {
                library: statistics.median(
                    one.calls_per_second / other.calls_per_second
                    for one, other in zip(found[name][k], found[library][k], strict=True)
                )
                for library in LIBRARIES
                if library in found
            }
            shown = ", ".join(f"{ratio:.1f} times {library}'s" for library, ratio in ratios.items())
            yield f"- {name}: {shown}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--triton", type=Path, metavar="START.sh", help="starts Triton: START.sh MODEL.onnx T")
    parser.add_argument("--transports", nargs="+", default=["http2", "grpcio"], help="of ours")
    parser.add_argument("--busy-poll-us", type=int, default=1000, help="of http2, a row more; 0: none")
    parser.add_argument("--no-libraries", action="store_true", help="leave mlserver and KServe out")
    parser.add_argument("--venvs", type=Path, default=VENVS, help="where they are installed")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn")
    parser.add_argument("--windows", type=int, nargs="+", default=list(WINDOWS), help="values in a window")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    names = [OURS + transport for transport in options.transports]
    if options.busy_poll_us and "http2" in options.transports:
        names.insert(names.index(OURS + "http2") + 1, OURS + "http2" + BUSY)
    names += [TRITON] * (options.triton is not None) + [*LIBRARIES] * (not options.no_libraries)
    figures = ["windows/s", "p50, µs", "p99, µs", "server's CPU a call, µs", "calls/s ÷ Triton", "p50 ÷ Triton"]
    header = ["calls", "server", *figures]
    lines = [
        "# Serving, closed loop",
        "",
        f"{describe_machine('onnxruntime', 'grpcio')}.",
        "",
        f"LSTM, H = {HIDDEN}, one layer. All servers on one core, by turns, h2load on another; medians of",
        f"{options.rounds} turns of {options.seconds:g} s. Busy poll: `--busy-poll-us {options.busy_poll_us}`. Beside: "
        + ", ".join(f"{name} {version}" for name, version in LIBRARIES.items())
        + ". `python -m benchmarks.serving`",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]
    below: list[str] = []
    with tempfile.TemporaryDirectory() as folder_name:
        work = Path(folder_name)
        for window in options.windows:
            publish(window, work / str(window) / "models")
            model = make_model("lstm", hidden_size=HIDDEN, window=window)
            expected = Reference(model).window(windows_for(window)).astype(np.float32)
            with ExitStack() as stack:
                peers = {
                    name: stack.enter_context(
                        started(
                            name,
                            window,
                            options.triton,
                            work,
                            options.server_core,
                            venvs=options.venvs,
                            busy_poll_us=options.busy_poll_us,
                        )
                    )
                    for name in names
                }
                for peer in peers.values():
                    check(peer, window, expected)
                found = measure(peers, window, options, work)
            lines += rows(window, found)
            if not options.no_libraries:
                below += [f"T = {window}, 1 window, 32 at a time, calls a second:", "", *beside_libraries(found), ""]
            options.out.write_text("\n".join([*lines, "", *below]).rstrip() + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
