"""A window graph as it is served beside ONNX's node, torch.onnx, torch.nn and OpenVINO; one thread of one core.

    python -m benchmarks.graphs [--kinds lstm,gru,gru-reset-after] [--hidden 50,128,256] [--windows 5,32,96]
                                [--batches 1,8,64,512] [--loads 3] [--rounds 5] [--core 0] [--venvs FOLDER]
                                [--no-openvino] [--out FILE]

At each point all sides are first held against ours, then take turns: in every round each runs for about the same time,
in an order that moves on. All are loaded anew a few times, as where memory comes to lie is good for some per cent. A
figure is the median of all rounds; a ratio is the median over rounds of ours to the peer of the same round, the peer
being the one with the smallest median. `floor` is what the products alone would take at the best rate that this core
was seen to multiply large matrices with. Writes a table after every shape, so that an interrupted run leaves what it
has.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from benchmarks.environment import environment
from benchmarks.graphs.sides import Bound, Module, OpenVino, Side, make_model, torch_module, torch_onnx
from benchmarks.machine import describe_machine
from export.artifact import plan
from export.build import lower
from export.graph import IR_VERSION, OPSET
from export.lowering.fused import fused
from export.lowering.source import source_of
from server.engine import session_options
from server.provider import choose_provider
from training.model import RecurrentModel

HERE = Path(__file__).parents[1]
OPENVINO_VERSION = "2026.4.1"
# What a round of one side takes.
ROUND_SECONDS = 0.02
# Of outputs of size 1: float32 by other sums.
CLOSE = 2e-5
GATES = {"lstm": 4, "gru": 3, "gru-reset-after": 3}
OURS = "ours"


@dataclass(frozen=True, kw_only=True)
class Point:
    """What was measured: seconds a run by side, a list with one for each round."""

    kind: str
    hidden_size: int
    window: int
    batch: int
    graph: str
    seconds: Mapping[str, Sequence[float]]
    operations: int

    @property
    def best_peer(self) -> str:
        """The side with the smallest median but ours."""
        return min((name for name in self.seconds if name != OURS), key=self.median)

    @property
    def ratio(self) -> float:
        """Ours ÷ the best peer's."""
        pairs = zip(self.seconds[OURS], self.seconds[self.best_peer], strict=True)
        return statistics.median(ours / peer for ours, peer in pairs)

    def median(self, side: str) -> float:
        """Seconds a run."""
        return statistics.median(self.seconds[side])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs", description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(GATES), help="cells")
    parser.add_argument("--hidden", type=numbers, default=[50, 128, 256], help="hidden sizes")
    parser.add_argument("--windows", type=numbers, default=[5, 32, 96], help="values in a window")
    parser.add_argument("--batches", type=numbers, default=[1, 8, 64, 512], help="windows in a run")
    parser.add_argument("--loads", type=int, default=3, help="how often every side is loaded")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every side after each load")
    parser.add_argument("--core", type=int, help="pin everything to this core")
    parser.add_argument("--venvs", type=Path, default=HERE / ".venvs", help="where OpenVINO is installed")
    parser.add_argument("--no-openvino", action="store_true", help="leave it out")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "graphs.md", help="the page to write")
    return parser.parse_args(arguments)


def install_openvino(folder: Path) -> Path:
    """The python of its environment, made first if it is not there."""
    return environment(folder, "openvino", OPENVINO_VERSION, [[f"openvino=={OPENVINO_VERSION}"]], lambda _: None)


def measure(
    model: RecurrentModel, batches: Sequence[int], loads: int, rounds: int, peer: OpenVino | None
) -> list[Point]:
    """All batches of one shape."""
    source = source_of(model)
    graphs = {name: proto.SerializeToString() for name, (_, proto) in lower(source).items() if name != "step"}
    node = fused(source, fold=False)[1].SerializeToString()
    module = torch_module(model)
    config = model.config
    windows = np.random.default_rng(0).standard_normal((max(batches), config.window, 1)).astype(np.float32)
    found = []
    for batch in batches:
        part = windows[:batch]
        graph = _fastest({name: Bound(_session(data), part) for name, data in graphs.items()})
        peers = {"ORT node": node, "torch.onnx": torch_onnx(model, batch)}
        seconds: dict[str, list[float]] = {}
        for _ in range(loads):
            sides: dict[str, Side] = {OURS: Bound(_session(graphs[graph]), part)}
            sides |= {name: Bound(_session(data), part) for name, data in peers.items()}
            if module is not None:
                sides["torch.nn"] = Module(module, part)
            if peer is not None:
                peer.clear()
                sides |= {f"OpenVINO, {name}": peer.load(data, part) for name, data in peers.items()}
            _check_equal(sides)
            for name, taken in race(sides, rounds).items():
                seconds.setdefault(name, []).extend(taken)
        gates, hidden = GATES[config.cell], config.hidden_size
        found.append(
            Point(
                kind=config.cell,
                hidden_size=hidden,
                window=config.window,
                batch=batch,
                graph=graph,
                seconds=seconds,
                operations=2 * batch * config.window * gates * hidden * (hidden + 1),
            )
        )
    return found


def _session(graph: bytes) -> ort.InferenceSession:
    provider = choose_provider("cpu")
    return ort.InferenceSession(graph, session_options(provider), providers=[provider.name])


def _fastest(sides: Mapping[str, Side]) -> str:
    """What the plan would choose at this batch: one graph, by the plan's own timing."""

    def run(name: str, _: int) -> None:
        sides[name].seconds(1)

    return plan.fastest(run, list(sides), clock=time.perf_counter, largest=1)[0].graph


def _check_equal(sides: Mapping[str, Side]) -> None:
    """Raise RuntimeError if a side gives other values than ours."""
    values = {}
    for name, side in sides.items():
        side.seconds(1)
        values[name] = side.value()
    for name, value in values.items():
        off = float(np.abs(value - values[OURS]).max())
        if not off <= CLOSE:
            raise RuntimeError(f"{name} is off by {off:.3g}; nothing was timed")


def race(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Seconds a run of each side, round by round."""
    repeats = {name: max(1, round(ROUND_SECONDS / max(side.seconds(2) / 2, 1e-7))) for name, side in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            taken[name].append(sides[name].seconds(repeats[name]) / repeats[name])
    return taken


def multiply_rate() -> float:
    """Operations a second of a large float32 product in onnxruntime."""
    size = 768
    a, c = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [size, size]) for name in "ac")
    weight = onnx.numpy_helper.from_array(np.ones((size, size), np.float32), "b")
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", [a], [c], initializer=[weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    session, matrix = _session(model.SerializeToString()), np.ones((size, size), np.float32)
    taken = []
    for _ in range(15):
        begun = time.perf_counter()
        session.run(None, {"a": matrix})
        taken.append(time.perf_counter() - begun)
    return 2 * size**3 / min(taken)


def page(points: Sequence[Point], rate: float, rounds: int) -> Iterable[str]:
    """The results as Markdown."""
    yield "# Window graphs on one CPU thread"
    yield ""
    machine = describe_machine("onnxruntime", "torch", "numpy")
    yield (
        f"{machine}; beside OpenVINO {OPENVINO_VERSION}. Products of large matrices: {rate / 1e9:.0f} GFLOP/s. "
        f"Medians of {rounds} rounds, microseconds a run; see benchmarks/graphs/."
    )
    yield ""
    ratios = [point.ratio for point in points]
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    within = sum(ratio <= 1.02 for ratio in ratios)
    yield f"Ours ÷ best peer: geometric mean **{mean:.3f}**, worst {max(ratios):.3f}; {within} of {len(ratios)} ≤ 1.02."
    yield ""
    names = list(dict.fromkeys(name for point in points for name in point.seconds))
    yield f"| cell, H, T, B | {' | '.join(names)} | floor | our graph | best peer | ratio |"
    yield f"|---|{'---|' * (len(names) + 4)}"
    for point in points:
        times = [f"{1e6 * point.median(name):.4g}" if name in point.seconds else "–" for name in names]
        yield (
            f"| {point.kind}, {point.hidden_size}, {point.window}, {point.batch} | {' | '.join(times)} | "
            f"{1e6 * point.operations / rate:.3g} | {point.graph} | {point.best_peer} | {point.ratio:.3f} |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the grid and write the page."""
    options = parse(arguments)
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    peer = None if options.no_openvino else OpenVino(install_openvino(options.venvs))
    rate = 0.0
    points: list[Point] = []
    try:
        for kind in options.kinds:
            for hidden_size in options.hidden:
                for window in options.windows:
                    model = make_model(kind, hidden_size=hidden_size, window=window)
                    rate = max(rate, multiply_rate())
                    points += measure(model, options.batches, options.loads, options.rounds, peer)
                    options.out.write_text("\n".join(page(points, rate, options.loads * options.rounds)) + "\n")
                    for point in points[-len(options.batches) :]:
                        print(
                            f"{point.kind} {point.hidden_size} {point.window} {point.batch}: {point.ratio:.3f} "
                            f"({point.graph} {1e6 * point.median(OURS):.4g} µs, {point.best_peer} "
                            f"{1e6 * point.median(point.best_peer):.4g} µs)",
                            file=sys.stderr,
                        )
    finally:
        if peer is not None:
            peer.close()
    print(f"written: {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
