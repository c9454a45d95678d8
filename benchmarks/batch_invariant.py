"""What the same bytes in any batch cost: `--batch-invariant on` beside the plan, in the server's engine.

    python -m benchmarks.batch_invariant [--rounds 15] > benchmarks/results/batch-invariant.md

Both engines run the same windows by turns. The invariant one runs the graph planned for small batches at any size,
and a lone window beside a copy of itself; with quantiles, whose logarithms are computed in packets, beside 15 of them.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.graphs.sides import make_model
from benchmarks.machine import describe_machine
from export.artifact import plan
from export.build import describe, lower
from export.lowering.source import source_of
from server.engine import Engine, Filling, load_session
from server.gate import check_batch_invariance, invariant_filling
from server.provider import choose_provider

SHAPES = (("lstm", 50, 5, "none"), ("lstm", 128, 32, "none"), ("gru", 50, 32, "none"), ("gru", 50, 32, "quantile"))
BATCHES = (1, 2, 8, 64, 512)
ROUND_SECONDS = 0.02


def engines(kind: str, hidden_size: int, window: int, intervals: str) -> tuple[Engine, Engine]:
    """By plan, and invariant; the latter is proved to be so first."""
    model = make_model(kind, hidden_size=hidden_size, window=window, intervals=intervals)
    source = source_of(model)
    lowered = {name: each for name, each in lower(source).items() if name != "step"}
    manifest = describe(model, source, {name: graph for name, (graph, _) in lowered.items()}, "demo", ["value"])
    cpu = choose_provider("cpu")

    def engine(filling: Filling) -> Engine:
        sessions = {
            name: load_session(manifest, name, proto.SerializeToString(), cpu) for name, (_, proto) in lowered.items()
        }
        return Engine(manifest, sessions, cpu, plan.fixed("window"), filling=filling)

    planned, invariant = engine(Filling()), engine(invariant_filling(manifest))
    planned.tune(max(BATCHES))
    invariant.plan = plan.fixed(planned.plan[0].graph)
    windows = np.random.default_rng(0).standard_normal((64, window, 1)).astype(np.float32)
    check_batch_invariance(invariant, {"window": windows})
    return planned, invariant


def ratio(planned: Engine, invariant: Engine, batch: int, rounds: int) -> tuple[float, float]:
    """Seconds of a planned run, and the invariant's time by it: medians over rounds."""
    shape = (batch, planned.manifest.window, 1)
    inputs = {"window": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}

    def seconds(engine: Engine, repeats: int) -> float:
        begun = time.perf_counter()
        for _ in range(repeats):
            engine.run(inputs)
        return (time.perf_counter() - begun) / repeats

    seconds(invariant, 3)
    repeats = max(1, round(ROUND_SECONDS / seconds(planned, 3)))
    taken = [(seconds(planned, repeats), seconds(invariant, repeats)) for _ in range(rounds)]
    return statistics.median(ours for ours, _ in taken), statistics.median(other / ours for ours, other in taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_invariant", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each engine")
    options = parser.parse_args(arguments)
    print("# The same bytes in any batch\n")
    print(
        f"{describe_machine('onnxruntime')}; one thread. Microseconds a run by plan, and × that for invariant runs.\n"
    )
    print(f"| cell, H, T | graph | {' | '.join(f'{batch} windows' for batch in BATCHES)} |")
    print(f"|---|---|{'---|' * len(BATCHES)}")
    for kind, hidden_size, window, intervals in SHAPES:
        planned, invariant = engines(kind, hidden_size, window, intervals)
        found = [ratio(planned, invariant, batch, options.rounds) for batch in BATCHES]
        cells = [f"{1e6 * seconds:.0f} × {times:.2f}" for seconds, times in found]
        name = f"{kind}, {hidden_size}, {window}" + f", {intervals}" * (intervals != "none")
        print(f"| {name} | {invariant.plan[0].graph} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
