import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.runs import Runs, spread_evenly


@given(st.lists(st.integers(0, 50)))
def test_runs_hold_any_places_in_their_order(places: list[int]) -> None:
    runs = Runs.of_places(np.array(places, dtype=np.int64))
    assert runs.all_places().tolist() == places
    assert runs.total == len(places)


@given(st.lists(st.booleans()), st.integers(0, 1000))
def test_flags_are_the_places_where_they_are_set(flags: list[bool], offset: int) -> None:
    runs = Runs.of_flags(np.array(flags, dtype=np.bool_), offset)
    assert runs.all_places().tolist() == [offset + place for place, flag in enumerate(flags) if flag]


def test_a_long_series_is_one_run() -> None:
    runs = Runs.of_bounds(np.array([48]), np.array([300_000_000]))
    assert len(runs.starts) == 1
    assert runs.total == 299_999_952
    assert runs.places(np.array([0, 299_999_951])).tolist() == [48, 299_999_999]


def test_empty_stretches_are_left_out() -> None:
    runs = Runs.of_bounds(np.array([0, 5, 9]), np.array([2, 5, 8]))
    assert runs.all_places().tolist() == [0, 1]


@given(st.integers(1, 500), st.integers(1, 600))
def test_a_spread_keeps_both_ends_and_never_repeats(count: int, limit: int) -> None:
    chosen = spread_evenly(count, limit)
    assert len(np.unique(chosen)) == len(chosen) == min(count, limit)
    assert chosen[0] == 0
    assert chosen[-1] == (count - 1 if limit > 1 else 0)


@pytest.mark.parametrize("limit", [None, 7, 8])
def test_no_limit_takes_all(limit: int | None) -> None:
    assert spread_evenly(7, limit).tolist() == list(range(7))
