"""Counts that are told must be right; what cannot be told is told after asking once."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nextvalue.unknown_series import UnknownSeries

IDS = [f"shop-{k}" for k in range(6)]
Callers = list[list[str]]

callers = st.lists(st.lists(st.sampled_from(IDS), min_size=1, max_size=4), min_size=1, max_size=5)


@settings(max_examples=300, deadline=None)
@given(
    unknown=st.fixed_dictionaries({version: st.sets(st.sampled_from(IDS)) for version in (1, 2)}),
    rounds=st.lists(st.tuples(st.sampled_from([1, 2]), callers), max_size=12),
    max_remembered=st.integers(1, 20),
)
def test_counts_are_right_or_not_told(
    unknown: dict[int, set[str]], rounds: list[tuple[int, Callers]], max_remembered: int
) -> None:
    """Over any rounds of joined messages, of two versions, with whoever was not told asking alone."""
    memory = UnknownSeries(max_remembered=max_remembered)
    for version, series_of in rounds:
        right = [sum(name in unknown[version] for name in series) for series in series_of]
        told = memory.counts("demo", version, series_of, sum(right))
        assert all(count in {None, truth} for count, truth in zip(told, right, strict=True))
        for count, truth, series in zip(told, right, series_of, strict=True):
            if count is None:
                memory.answered_alone("demo", version, series, truth)
            if not any(right):
                assert count == 0


def test_a_series_once_found_unknown_needs_no_second_question() -> None:
    memory = UnknownSeries()
    assert memory.counts("demo", 1, [["a"], ["x"], ["b", "a"]], 1) == [None, None, None]
    for series, count in ((["a"], 0), (["x"], 1), (["b", "a"], 0)):
        memory.answered_alone("demo", 1, series, count)
    assert memory.counts("demo", 1, [["b"], ["x", "a"], ["x"]], 2) == [0, 1, 1]
    assert memory.counts("demo", 2, [["a"], ["x"]], 1) == [None, None]  # another version may know it
    assert memory.counts("other", 1, [["a"], ["x"]], 1) == [None, None]


def test_a_stranger_among_others_leaves_certain_counts_certain() -> None:
    memory = UnknownSeries()
    memory.answered_alone("demo", 1, ["x"], 1)
    assert memory.counts("demo", 1, [["x", "x"], ["a"], ["y"]], 3) == [2, None, None]


def test_where_all_are_unknown_nobody_is_asked() -> None:
    memory = UnknownSeries()
    assert memory.counts("demo", 1, [["x"], ["y", "z"]], 3) == [1, 2]
    assert memory.counts("demo", 1, [["a"], ["z"]], 1) == [0, 1]


def test_a_call_that_mixes_both_goes_alone_until_it_is_clear_which_is_which() -> None:
    memory = UnknownSeries()
    memory.answered_alone("demo", 1, ["a", "x"], 1)
    assert memory.unclear("demo", ["b", "x"])
    assert not memory.unclear("other", ["b", "x"])
    assert not memory.unclear("demo", ["x"]), "a call of one series tells by itself"
    memory.answered_alone("demo", 1, ["x"], 1)
    memory.answered_alone("demo", 1, ["a", "x"], 1)
    assert not memory.unclear("demo", ["a", "x"])
