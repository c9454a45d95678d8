"""A forecaster that looks ahead is caught, however little it sees; an honest one never is."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.backtest.samples import baselines
from tests.training.models import random_model, steady
from training.backtest import judge, leak
from training.backtest.leak import check_leaks
from training.backtest.ours import Ours
from training.baselines import Autoregression, Forecaster, LastValue, SeasonalNaive
from training.baselines.naive import target_rows
from training.data import WindowSet
from training.data.rows import MemoryRows
from training.errors import LeakError
from training.fit import Predicted

Array = NDArray[np.float64]


class Cheat:
    """The last value, and a hair of what `sees` finds, [M]."""

    name = "cheat"
    reach = 1

    def __init__(self, sees: Callable[[WindowSet], Array]) -> None:
        self.sees = sees

    def predict(self, windows: WindowSet) -> Predicted:
        seen_M1 = 1e-12 * self.sees(windows)[:, None]
        return Predicted(LastValue().predict(windows).next + seen_M1, None, None)


def walk(*, num_features: int = 1, horizon: int = 1, has_times: bool = False) -> WindowSet:
    """Two series of 200 rows in the same 200 minutes, whose last 100 rows are the test part."""
    values = 100 + np.random.default_rng(0).standard_normal((400, num_features)).cumsum(axis=0)
    times = np.tile(np.arange(200) * 60, 2) if has_times else None
    return WindowSet(
        values=MemoryRows(values, times),
        rows=np.concatenate((np.arange(100, 200 - horizon + 1), np.arange(300, 400 - horizon + 1))),
        window=4,
        horizon=horizon,
        series_starts=np.array([0, 200, 400]),
        series_numbers=np.array([0, 1]),
    )


def of_all(windows: WindowSet, number: float) -> Array:
    return np.full(len(windows), number)


CHEATS: dict[str, Callable[[WindowSet], Array]] = {
    "the value it is to predict": lambda windows: target_rows(windows, 0, 1)[:, 0],
    "a value two rows behind it": lambda windows: target_rows(windows, min(2, windows.horizon - 1), 1)[:, 0],
    "the mean of the whole series": lambda windows: of_all(windows, float(windows.values.mean())),
    "the largest value of the whole series": lambda windows: of_all(windows, float(windows.values.max())),
    "the deviation of the whole series": lambda windows: of_all(windows, float(windows.values.std())),
    "the mean of the windows it is asked with": lambda windows: of_all(windows, float(windows.windows().mean())),
    "its own error": lambda windows: np.abs(target_rows(windows, -1, 2)).max(axis=1),
}


@pytest.mark.parametrize("has_times", [False, True])
@pytest.mark.parametrize("what", CHEATS)
def test_who_looks_ahead_is_named(what: str, has_times: bool) -> None:
    with pytest.raises(LeakError, match="cheat looks ahead: its prediction of a value changes with that value"):
        check_leaks([LastValue(), Cheat(CHEATS[what])], walk(horizon=3, has_times=has_times), is_target_alone=False)


@pytest.mark.parametrize("what", CHEATS)
def test_so_it_is_where_only_the_end_of_the_rows_is_copied(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak, "COPIED_NUMBERS", 80)
    with pytest.raises(LeakError, match="cheat looks ahead"):
        check_leaks([Cheat(CHEATS[what])], walk(), is_target_alone=False)


def test_a_peek_in_an_interval_counts() -> None:
    class Sure(Cheat):
        def predict(self, windows: WindowSet) -> Predicted:
            next_M1 = LastValue().predict(windows).next
            return Predicted(next_M1, next_M1[..., None] - 9, next_M1[..., None] + self.sees(windows)[:, None, None])

    with pytest.raises(LeakError, match="cheat"):
        check_leaks([Sure(CHEATS["the value it is to predict"])], walk(), is_target_alone=False)


def test_a_peek_at_another_series_is_seen_where_there_are_times() -> None:
    """At the same minute of the first series: in front of the second one's rows, but at its origin in time."""

    def neighbour(windows: WindowSet) -> Array:
        return np.array(windows.values[windows.rows % 200, 0], dtype=np.float64)

    with pytest.raises(LeakError, match="cheat"):
        check_leaks([Cheat(neighbour)], walk(has_times=True), is_target_alone=False)


def test_a_covariate_ahead_is_a_peek_unless_it_is_known_ahead() -> None:
    def covariate(windows: WindowSet) -> Array:
        return np.array(windows.values[windows.rows, 1], dtype=np.float64)

    with pytest.raises(LeakError, match="cheat"):
        check_leaks([Cheat(covariate)], walk(num_features=2), is_target_alone=False)
    assert check_leaks([Cheat(covariate)], walk(num_features=2), is_target_alone=True) == leak.NUM_ORIGINS


HONEST: dict[str, Forecaster] = {
    "last value": LastValue(),
    "seasonal naive": SeasonalNaive(48),
    "autoregression": Autoregression(intercept=0.1, coefficients=(0.3, -0.1, 0.4)),
    "one feature": Ours(random_model(intervals="quantile", levels=(0.5, 0.9))),
    "scaled by its window": Ours(random_model(scaling="window", horizon=2)),
    "scaled by its series": Ours(random_model(scaling="series", num_series=2, calendar=("day",))),
}


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("copied", [2**21, 400])
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_forecaster_passes(name: str, copied: int, horizon: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leak, "COPIED_NUMBERS", copied)
    windows = walk(horizon=horizon, has_times=True)
    assert check_leaks([HONEST[name]], windows, is_target_alone=False) == leak.NUM_ORIGINS


def test_covariates_fed_back_are_those_of_the_data() -> None:
    """Beyond the direct horizon they are known ahead, which the check allows for when it is told."""
    ours = Ours(random_model(num_features=2))
    windows = walk(num_features=2, horizon=3)
    assert check_leaks([ours], windows, is_target_alone=True) == leak.NUM_ORIGINS
    with pytest.raises(LeakError, match="gru looks ahead"):
        check_leaks([ours], windows, is_target_alone=False)


@pytest.mark.parametrize("largest", [0.0, 3e38])
def test_values_of_any_size_are_replaced_by_other_ones(largest: float) -> None:
    values = np.full((60, 1), largest)
    windows = WindowSet(values=values, rows=np.arange(40, 60), window=4)
    assert check_leaks([LastValue()], windows, is_target_alone=False) == leak.NUM_ORIGINS
    with pytest.raises(LeakError, match="cheat"):
        check_leaks([Cheat(CHEATS["the value it is to predict"])], windows, is_target_alone=False)


@pytest.mark.parametrize("what", ["the value it is to predict", "the mean of the whole series"])
def test_a_backtest_with_a_cheat_in_it_is_refused(what: str) -> None:
    test = walk()
    judge(steady(0.0, window=4), test, baselines(), target="x", source="here", others=[Cheat(lambda w: of_all(w, 1))])
    with pytest.raises(LeakError, match="cheat looks ahead"):
        judge(steady(0.0, window=4), test, baselines(), target="x", source="here", others=[Cheat(CHEATS[what])])
