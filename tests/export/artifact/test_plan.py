"""Plans from a clock that the runs themselves move on."""

from collections.abc import Callable

import pytest

from export.artifact import plan
from export.artifact.manifest import PlanEntry

Cost = Callable[[str, int], float]


class Bench:
    """Runs cost what `cost` says, in seconds."""

    def __init__(self, cost: Cost) -> None:
        self.now = 0.0
        self.runs: list[tuple[str, int]] = []
        self._cost = cost

    def run(self, graph: str, batch: int) -> None:
        self.runs.append((graph, batch))
        self.now += self._cost(graph, batch)

    def fastest(self, *graphs: str, largest: int = 64) -> list[tuple[int | None, str]]:
        entries = plan.fastest(self.run, graphs, clock=lambda: self.now, largest=largest)
        return [(entry.max_batch, entry.graph) for entry in entries]


def linear(**costs: tuple[float, float]) -> Cost:
    """A start-up and a cost per window for each graph."""
    return lambda graph, batch: costs[graph][0] + costs[graph][1] * batch


def test_each_batch_size_gets_what_is_fastest_there() -> None:
    cost = linear(window=(10e-6, 1e-6), fused=(1e-6, 2e-6))  # equal at 9 windows
    assert Bench(cost).fastest("window", "fused") == [(8, "fused"), (None, "window")]
    assert Bench(cost).fastest("window", "fused", largest=4) == [(None, "fused")]


def test_three_graphs_take_turns() -> None:
    cost = linear(window=(0.0, 3e-6), fused=(10e-6, 1e-6), third=(90e-6, 1e-8))
    assert Bench(cost).fastest("window", "fused", "third", largest=128) == [
        (4, "window"),
        (64, "fused"),
        (None, "third"),
    ]


def test_a_graph_that_is_hardly_faster_does_not_cut_the_plan() -> None:
    assert Bench(linear(window=(1e-5, 1e-6), fused=(0.98e-5, 0.98e-6))).fastest("window", "fused") == [(None, "window")]
    assert Bench(linear(window=(1e-5, 1e-6), fused=(0.9e-5, 0.9e-6))).fastest("window", "fused") == [(None, "fused")]


def test_one_graph_is_not_timed() -> None:
    bench = Bench(linear(window=(1.0, 1.0)))
    assert bench.fastest("window") == [(None, "window")]
    assert bench.runs == []


def test_batches_beyond_a_slow_one_are_not_run() -> None:
    bench = Bench(linear(window=(0.0, 0.02), fused=(0.0, 0.01)))
    assert bench.fastest("window", "fused", largest=1024) == [(None, "fused")]
    assert max(batch for _, batch in bench.runs) == 8


def test_a_clock_that_does_not_move_leaves_the_first() -> None:
    assert Bench(linear(window=(0.0, 0.0), fused=(0.0, 0.0))).fastest("window", "fused") == [(None, "window")]


@pytest.mark.parametrize(
    ("largest", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8, 9])]
)
def test_buckets_are_powers_of_two_and_the_largest(largest: int, expected: list[int]) -> None:
    assert plan.buckets(largest) == expected


def test_fixed() -> None:
    assert plan.fixed("window") == [PlanEntry(max_batch=None, graph="window")]
