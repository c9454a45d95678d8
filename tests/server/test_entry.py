"""One call's windows as they slide over what was predicted, K values at a time."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.entry import Ends, Entry
from server.rollout import Rollout
from tests.server.bench import following, slid

WINDOW = 3
NAMES = {"times": "time_seconds", "series": "series"}


def make_entry(num_windows: int, *, num_features: int = 1, **options: Any) -> Entry:
    windows = np.random.default_rng(3).standard_normal((num_windows, WINDOW, num_features), np.float32)
    options = {"horizon": 1, "future_NHF": None} | options
    return Entry(windows, deadline=math.inf, enqueued=0.0, **options)


@given(
    num_windows=st.integers(1, 5),
    horizon=st.integers(1, 12),
    direct_horizon=st.integers(1, 7),
    num_features=st.integers(1, 3),
    takes=st.sets(st.sampled_from(["times", "series"])),
    cut=st.integers(0, 5),
)
def test_every_horizon_is_the_loop_written_out(
    *, num_windows: int, horizon: int, direct_horizon: int, num_features: int, takes: set[str], cut: int
) -> None:
    """With covariates, times and series, in one piece or two; as many runs as it takes, and no more."""
    generator = np.random.default_rng(num_windows)
    future = None
    if num_features > 1 and horizon > direct_horizon:
        future = generator.standard_normal((num_windows, horizon - 1, num_features - 1), np.float32)
    times = generator.integers(1, 9000, (num_windows, WINDOW)).cumsum(axis=1) if "times" in takes else None
    series = generator.integers(-1, 5, (num_windows, 1)) if "series" in takes else None
    entry = make_entry(
        num_windows,
        num_features=num_features,
        horizon=horizon,
        direct_horizon=direct_horizon,
        future_NHF=future,
        time_seconds_NT=times,
        series_N1=series,
    )
    windows = entry.windows(0, num_windows).copy()
    num_runs = 0
    while not entry.finished:
        num_runs += 1
        bounds = sorted({0, min(cut, num_windows), num_windows})
        # The last piece first: a run may come back in any order.
        for start, stop in list(itertools.pairwise(bounds))[::-1]:
            inputs = entry.inputs(start, stop)
            assert set(inputs) == {"window"} | {NAMES[word] for word in takes}
            context = inputs.get("time_seconds"), inputs.get("series")
            given = following(inputs["window"], *context, num_ahead=direct_horizon)
            entry.accept(start, stop, given[:, : entry.num_wanted])
    expected = slid(windows, horizon, future, time_seconds_NT=times, series_N1=series, num_ahead=direct_horizon)
    np.testing.assert_array_equal(entry.predictions_NH, expected)
    assert num_runs == math.ceil(horizon / direct_horizon)


@pytest.mark.parametrize(
    ("horizon", "steps"),
    [
        (1, [("window", 1)]),
        # Two of four values do pay for the run; one does not.
        (2, [("sliding", 2)]),
        (5, [("sliding", 4), ("window", 1)]),
        (7, [("sliding", 4), ("sliding", 3)]),
        (9, [("sliding", 4), ("sliding", 4), ("window", 1)]),
    ],
)
def test_a_rollout_gives_many_steps_where_that_pays(horizon: int, steps: list[tuple[str, int]]) -> None:
    entry = make_entry(2, horizon=horizon, rollout=Rollout("sliding", 4, 8))
    windows = entry.windows(0, 2).copy()
    expected = slid(windows, horizon)
    found = []
    while not entry.finished:
        found.append((entry.graph, entry.num_wanted))
        assert (entry.rollout is None) == (entry.graph == "window")
        length = 4 if entry.rollout else 1
        entry.accept(0, 2, slid(entry.windows(0, 2), length)[:, : entry.num_wanted])
    assert found == steps
    np.testing.assert_array_equal(entry.predictions_NH, expected)


def test_a_state_that_goes_on_has_no_other_way() -> None:
    entry = make_entry(1, horizon=2, rollout=Rollout("carry", 24, 8))
    assert (entry.graph, entry.num_wanted) == ("carry", 2)


def test_a_horizon_within_one_run_wants_no_more() -> None:
    entry = make_entry(2, horizon=2, direct_horizon=3)
    assert entry.num_wanted == 2
    entry.accept(0, 2, np.array([[1, 2], [4, 5]], np.float32))
    assert entry.finished
    assert entry.predictions_NH.tolist() == [[1, 2], [4, 5]]


def test_windows_slide_over_all_that_a_run_gave() -> None:
    """Even where it gives more than a window holds."""
    entry = make_entry(1, horizon=6, direct_horizon=5)
    entry.accept(0, 1, np.array([[1, 2, 3, 4, 5]], np.float32))
    assert not entry.finished
    assert (entry.step, entry.num_wanted) == (5, 1)
    assert entry.windows(0, 1)[0, :, 0].tolist() == [3, 4, 5]
    entry.accept(0, 1, np.array([[6]], np.float32))
    assert entry.finished
    assert entry.predictions_NH.tolist() == [[1, 2, 3, 4, 5, 6]]


def test_time_goes_on_by_each_windows_last_step() -> None:
    times = np.array([[0, 10, 20], [0, 100, 101]])
    entry = make_entry(2, horizon=5, direct_horizon=2, time_seconds_NT=times)
    assert entry.inputs(0, 2)["time_seconds"].tolist() == times.tolist()
    for _ in range(2):
        entry.accept(0, 2, np.zeros((2, 2), np.float32))
    found = entry.inputs(0, 2)["time_seconds"]
    assert found.dtype == np.int64
    assert found.tolist() == [[40, 50, 60], [103, 104, 105]]
    assert times.tolist() == [[0, 10, 20], [0, 100, 101]], "the caller's array was changed"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ends_are_kept_where_they_belong(order: tuple[int, int]) -> None:
    entry = make_entry(3, horizon=2, direct_horizon=3, num_levels=2)
    lower = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    pieces = ((0, 1), (1, 3))
    for k in order:
        start, stop = pieces[k]
        wanted = lower[start:stop, :2]
        entry.accept(start, stop, wanted[:, :, 0], Ends(wanted, 100 + wanted))
    assert entry.finished
    assert entry.ends is not None
    np.testing.assert_array_equal(entry.ends.lower, lower[:, :2])
    np.testing.assert_array_equal(entry.ends.upper, 100 + lower[:, :2])


def test_ends_are_not_kept_unless_asked_for() -> None:
    entry = make_entry(1)
    entry.accept(0, 1, np.zeros((1, 1), np.float32), Ends(*np.zeros((2, 1, 1, 1), np.float32)))
    assert entry.finished
    assert entry.ends is None
