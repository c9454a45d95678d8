"""Several values in one graph beside a run for each of them: one thread, one core.

    python -m benchmarks.rollout [--length 24] [--hidden 50] [--rounds 15] [--out benchmarks/results/rollout.md]

Runs are the server's own (bound buffers up to 16 windows, the fastest of all window graphs at that batch size), each
followed by sliding the window on. `sliding` gives the same values, `carry` those of a state that goes on; both are held
against their loops first. All take turns; the ratio is the median over rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.graphs.sides import Array, make_model
from benchmarks.machine import describe_machine
from export.build import lower, roll
from export.evaluate import Reference
from export.lowering.source import source_of
from server.engine import Session
from server.provider import choose_provider

RESULTS = Path(__file__).parent / "results" / "rollout.md"
KINDS, WINDOWS, BATCHES = ("lstm", "gru", "gru-reset-after"), (5, 32, 96), (1, 8, 32)
ROUND_SECONDS = 0.02
CLOSE = 1e-5

Run = Callable[[], Array]


def one_by_one(session: Session, windows_BT1: Array, length: int) -> Array:
    """A run for each value, the window slid on between them."""
    num_windows, window = windows_BT1.shape[:2]
    seen = np.empty((num_windows, window + length, 1), np.float32)
    seen[:, :window] = windows_BT1
    for k in range(length):
        seen[:, window + k] = session.run({"window": np.ascontiguousarray(seen[:, k : k + window])})["next"]
    return seen[:, window:, 0]


def race(sides: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds a run of each side, round by round."""
    repeats = {}
    for name, run in sides.items():
        run()
        begun = time.perf_counter()
        run()
        repeats[name] = max(1, round(ROUND_SECONDS / (time.perf_counter() - begun)))
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            begun = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            taken[name].append((time.perf_counter() - begun) / repeats[name])
    return taken


def row(kind: str, hidden: int, window: int, batch: int, *, length: int, rounds: int) -> str:
    """A line of the table. Raises RuntimeError if a rollout gives other values than its loop."""
    provider = choose_provider("cpu")
    model = make_model(kind, hidden_size=hidden, window=window)
    source = source_of(model)
    windows = np.random.default_rng(0).standard_normal((batch, window, 1)).astype(np.float32)

    def session(proto: object) -> Session:
        return Session(proto.SerializeToString(), provider)  # type: ignore[attr-defined]  # onnx.ModelProto

    singles = {name: session(proto) for name, (_, proto) in lower(source).items() if name != "step"}
    rolls = {name: session(proto) for name, (_, proto) in roll(source, length)[0].items()}
    sides: dict[str, Run] = {
        name: lambda each=each: one_by_one(each, windows, length)  # type: ignore[misc]  # bound now
        for name, each in singles.items()
    }
    sides |= {
        name: lambda each=each: each.run({"window": windows})["next"]  # type: ignore[misc]  # bound now
        for name, each in rolls.items()
    }
    reference = Reference(model, rollout=length)
    for name, run in sides.items():
        expected = reference.run("sliding" if name in singles else name, {"window": windows})["next"]
        off = float(np.abs(run() - expected).max())
        if not off <= CLOSE * length:
            raise RuntimeError(f"{kind}, {name}: off by {off:.3g}; nothing was timed")
    taken = race(sides, rounds)
    best = min(singles, key=lambda name: statistics.median(taken[name]))
    cells = [f"{kind}, {window}, {batch}", best, f"{1e6 * statistics.median(taken[best]):.0f}"]
    for name in ("sliding", "carry"):
        times = [one / other for one, other in zip(taken[best], taken[name], strict=True)]
        cells += [f"{1e6 * statistics.median(taken[name]):.0f}", f"{statistics.median(times):.2f}"]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=24, help="values ahead")
    parser.add_argument("--hidden", type=int, default=50, help="hidden size")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every side")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(arguments)
    lines = [
        f"# {options.length} values ahead: in one graph, and a run for each",
        "",
        f"{describe_machine('onnxruntime', 'numpy')}; H = {options.hidden}, float32, one thread.",
        "",
        f"Microseconds for all {options.length} values, medians of {options.rounds} rounds; `times`: how many times",
        "faster one graph is. `python -m benchmarks.rollout`",
        "",
        "| cell, T, windows | fastest window graph | a run for each | sliding | times | carry | times |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for window in WINDOWS:
            for batch in BATCHES:
                found = row(kind, options.hidden, window, batch, length=options.length, rounds=options.rounds)
                lines.append(found)
                print(found, flush=True)
    options.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
