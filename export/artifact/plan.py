"""Which lowering runs for which number of windows, found by timing them.

    plan = fastest(lambda graph, batch: seconds, ["window", "fused"], largest=512)

A plan is a list of entries in the order of their batch sizes; the last has no limit. Nothing here runs a graph.
"""

import statistics
from collections.abc import Callable, Sequence

from export.artifact.manifest import PlanEntry

LARGEST_BUCKET = 1024
# Another graph must be so much faster than the one before it in the plan: noise shall not cut a plan into pieces.
WORTH = 0.97
ROUNDS = 15
# Of runs that take long by themselves.
FEW_ROUNDS = 5
# A measurement repeats its run until it takes about so long, as a clock is read no finer.
SHORTEST_SECONDS = 1e-3
# Batches above one whose runs take so long are not timed: what wins there wins beyond.
LONGEST_SECONDS = 0.05

# Runs a named graph on so many windows.
Run = Callable[[str, int], None]
Clock = Callable[[], float]


def buckets(largest: int = LARGEST_BUCKET) -> list[int]:
    """Powers of two up to `largest`, and `largest` itself."""
    sizes = [2**k for k in range(largest.bit_length()) if 2**k <= largest]
    return sizes if sizes[-1] == largest else [*sizes, largest]


def fixed(graph: str) -> list[PlanEntry]:
    """The plan that always runs one graph."""
    return [PlanEntry(max_batch=None, graph=graph)]


def fastest(run: Run, graphs: Sequence[str], *, clock: Clock, largest: int = LARGEST_BUCKET) -> list[PlanEntry]:
    """The plan of the fastest graphs, timed at every bucket; the first of `graphs` where no other is better."""
    if len(graphs) == 1:
        return fixed(graphs[0])
    winners: list[tuple[int, str]] = []
    preferred = graphs[0]
    for batch in buckets(largest):
        seconds = _rounds(run, graphs, batch, clock)
        best = min(graphs, key=lambda graph: statistics.median(seconds[graph]))
        if _ratio(seconds[best], seconds[preferred]) < WORTH:
            preferred = best
        winners.append((batch, preferred))
        if min(seconds[best]) > LONGEST_SECONDS:
            break
    return _merged(winners)


def _rounds(run: Run, graphs: Sequence[str], batch: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds for a run of each graph, by rounds: the graphs take turns, and what slows the machine slows them all."""
    repeats = {}
    for graph in graphs:
        run(graph, batch)
        once = _seconds(run, graph, batch, 1, clock)
        repeats[graph] = max(1, round(SHORTEST_SECONDS / once)) if once > 0 else 1
    rounds = ROUNDS if once < SHORTEST_SECONDS * 10 else FEW_ROUNDS
    taken: dict[str, list[float]] = {graph: [] for graph in graphs}
    for _ in range(rounds):
        for graph in graphs:
            taken[graph].append(_seconds(run, graph, batch, repeats[graph], clock))
    return taken


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds, 1 where nothing took time."""
    return statistics.median(one / other if other > 0 else 1.0 for one, other in zip(some, others, strict=True))


def _seconds(run: Run, graph: str, batch: int, repeats: int, clock: Clock) -> float:
    begun = clock()
    for _ in range(repeats):
        run(graph, batch)
    return (clock() - begun) / repeats


def _merged(winners: Sequence[tuple[int, str]]) -> list[PlanEntry]:
    """One entry for each run of the same winner."""
    entries: list[PlanEntry] = []
    for (batch, graph), following in zip(winners, [*winners[1:], None], strict=True):
        if following is None:
            entries.append(PlanEntry(max_batch=None, graph=graph))
        elif following[1] != graph:
            entries.append(PlanEntry(max_batch=batch, graph=graph))
    return entries
