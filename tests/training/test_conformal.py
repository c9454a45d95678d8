"""Coverage is what theory says it is, on data for which it says anything."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.models import random_model, steady
from training.conformal import calibrate, check_levels, margins, rank
from training.data import Parts, WindowSet
from training.errors import DataError
from training.fit import predict
from training.model import ModelConfig, RecurrentModel

LEVEL = 0.9


def windows_of(
    values_RF: NDArray[np.float64], start: int, stop: int, *, window: int = 2, horizon: int = 1
) -> WindowSet:
    rows = np.arange(max(start, window), stop - horizon + 1)
    return WindowSet(values=values_RF, rows=rows, window=window, horizon=horizon)


@pytest.mark.parametrize(("count", "level", "place"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.29, 29), (99, 0.57, 57)])
def test_the_rank_is_exact_where_a_float_is_a_hair_off(count: int, level: float, place: int) -> None:
    """100 · 0.29 is 28.999999999999996 and 100 · 0.57 is 56.99999999999999."""
    assert rank(count, level) == place


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_too_few_values_are_refused_and_just_enough_are_not(level: float) -> None:
    needed = round(1 / (1 - level)) - 1
    assert rank(needed, level) == needed
    with pytest.raises(DataError, match=rf"levels has {level}, which needs {needed} windows .* there are {needed - 1}"):
        rank(needed - 1, level)
    windows = windows_of(np.zeros((needed + 1, 1)), 0, needed + 1)
    with pytest.raises(DataError, match=f"needs {needed} windows"):
        check_levels((level,), windows)


@pytest.mark.parametrize(("count", "level"), [(19, 0.9), (25, 0.9), (99, 0.5), (40, 0.95)])
def test_exchangeable_scores_are_covered_as_often_as_the_rank_says(count: int, level: float) -> None:
    """The share of new scores below the k-th of n is k / (n + 1) on average: each column calibrates by itself."""
    repeats, fresh = 4000, 50
    rng = np.random.default_rng(0)
    limit_K = margins(rng.standard_cauchy((count, repeats, 1)), (level,))[:, 0]
    covered = (rng.standard_cauchy((fresh, repeats)) <= limit_K).mean()
    expected = math.ceil((count + 1) * Fraction(str(level))) / (count + 1)
    # Variances of the limit (a Beta law) and of the share of fresh scores, each below p (1 - p) / n.
    error = math.sqrt(expected * (1 - expected) * (1 / count + 1 / fresh) / repeats)
    assert abs(covered - expected) < 4 * error
    assert expected >= level


def test_each_horizon_and_level_has_a_margin_of_its_own() -> None:
    scores_MK1 = np.stack((np.arange(1.0, 100), 10 * np.arange(1.0, 100)), axis=1)[..., None]
    assert margins(scores_MK1, (0.5, 0.9)).tolist() == [[50, 90], [500, 900]]
    scores_MKL = np.concatenate((scores_MK1, -scores_MK1), axis=2)
    assert margins(scores_MKL, (0.5, 0.9)).tolist() == [[50, -10], [500, -100]]


def inside(model: RecurrentModel, windows: WindowSet) -> NDArray[np.bool_]:
    """Whether each target lies in each interval, [M, K, L]."""
    said, targets_MK1 = predict(model, windows), windows.targets()[..., None]
    assert said.lower is not None
    assert said.upper is not None
    is_inside_MKL: NDArray[np.bool_] = (said.lower <= targets_MK1) & (targets_MK1 <= said.upper)
    return is_inside_MKL


@pytest.mark.parametrize(
    ("intervals", "scaling"),
    [("conformal", "fit"), ("conformal", "window"), ("normalized", "fit"), ("quantile", "fit"), ("quantile", "window")],
)
def test_so_many_validation_values_lie_inside_as_were_asked_for(intervals: str, scaling: str) -> None:
    """In float64, where nothing lies on the edge but the one value that sets it."""
    rng = np.random.default_rng(1)
    values = 100 + 5 * rng.standard_normal((300, 1)).cumsum(axis=0)
    model = random_model(horizon=2, intervals=intervals, levels=(0.5, LEVEL), scaling=scaling).double()
    validation = windows_of(values.astype(np.float32).astype(np.float64), 0, 300, window=4, horizon=2)
    calibrate(model, validation)
    counts_KL = inside(model, validation).sum(axis=0)
    for column, level in enumerate((0.5, LEVEL)):
        asked = rank(len(validation), level)
        assert set(counts_KL[:, column].tolist()) <= {asked - 1, asked}


def test_intervals_grow_with_the_horizon_on_a_random_walk() -> None:
    """By the root of the steps ahead: a walk of n steps ends as far off as √n single ones."""
    values = np.random.default_rng(2).standard_normal((6000, 1)).cumsum(axis=0)
    model = steady(*[0.0] * 8, intervals="conformal", levels=(LEVEL,))
    calibrate(model, windows_of(values, 0, 3000, horizon=8))
    test = windows_of(values, 3000, 6000, horizon=8)
    said = predict(model, test)
    assert said.lower is not None
    assert said.upper is not None
    width_K = (said.upper - said.lower)[0, :, 0]
    assert (np.diff(width_K) > 0).all()
    assert width_K[0] == pytest.approx(2 * 1.645, rel=0.1)
    np.testing.assert_allclose(width_K / width_K[0], np.sqrt(np.arange(1, 9)), rtol=0.1)
    assert inside(model, test).mean() == pytest.approx(LEVEL, abs=0.05)


def test_a_learnt_distance_is_judged_on_its_own_side() -> None:
    """1 below and 2 above: of residuals -3 and 4 the lower one is further off, 3 distances against 2."""
    model = steady(0.0, intervals="quantile", levels=(0.5,))
    with torch.no_grad():
        model.head.distance.weight.zero_()
        # softplus(log(e^d - 1)) = d
        model.head.distance.bias.copy_(torch.tensor([1.0, 2.0]).expm1().log())
    residuals = [4.0, 4, 4, -3, -3]
    values = np.zeros((2 * len(residuals) + 3, 1))
    rows = 2 + 2 * np.arange(len(residuals))
    values[rows, 0] = residuals
    windows = WindowSet(values=values, rows=rows, window=1)
    model.config = ModelConfig(
        cell="rnn", window=1, num_features=1, hidden_size=2, num_layers=1, transform="difference",
        intervals="quantile", levels=(0.5,),
    )  # fmt: skip
    calibrate(model, windows)
    assert model.head.margin.flatten().tolist() == pytest.approx([2, 2])
    values[rows, 0] = [4, 4, -3, -3, -3]
    calibrate(model, WindowSet(values=values, rows=rows, window=1))
    assert model.head.margin.flatten().tolist() == pytest.approx([3, 3])


def test_learnt_intervals_are_narrow_where_the_noise_is_small() -> None:
    """The second column says how loud the next value's noise will be, 1 or 8; the model has learnt 0.5 and 4."""
    rng = np.random.default_rng(3)
    loud = np.where(rng.random(9000) < 0.5, 1.0, 8.0)
    values_RF = np.stack((np.roll(loud, 1) * rng.standard_normal(9000), loud), axis=1)
    parts = Parts(*(windows_of(values_RF, *span, window=1) for span in ((0, 6000), (6000, 7500), (7500, 9000))))
    config = ModelConfig(
        cell="rnn", window=1, num_features=2, hidden_size=1, num_layers=1, transform="standardize",
        intervals="quantile", levels=(LEVEL,),
    )  # fmt: skip
    model = RecurrentModel(config)
    weights = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    # h is the sign of the loudness less 4.5, and log(e^d - 1) what softplus makes the distance d of.
    quiet, noisy = torch.tensor([0.5, 4.0]).expm1().log().tolist()
    (cell,) = (name for name in weights if name.startswith("stack.") and name.endswith("weight"))
    weights[cell][0, 1] = 100
    weights[cell.replace("weight", "bias")][0] = -450
    weights["head.distance.weight"][:] = (noisy - quiet) / 2
    weights["head.distance.bias"][:] = (noisy + quiet) / 2
    model.load_state_dict(model.state_dict() | weights)
    calibrate(model, parts.validation)
    said = predict(model, parts.test)
    assert said.lower is not None
    assert said.upper is not None
    width_M = (said.upper - said.lower)[:, 0, 0]
    is_loud_M = values_RF[parts.test.rows - 1, 1] > 1
    np.testing.assert_allclose(width_M, np.where(is_loud_M, 8, 1) * 2 * 1.645, rtol=0.1)
    is_inside_M = inside(model, parts.test)[:, 0, 0]
    assert is_inside_M[~is_loud_M].mean() == pytest.approx(LEVEL, abs=0.05)
    assert is_inside_M[is_loud_M].mean() == pytest.approx(LEVEL, abs=0.05)


def test_a_model_without_intervals_is_left_as_it_is() -> None:
    model = steady(1.0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    calibrate(model, windows_of(np.zeros((4, 1)), 0, 4))
    assert set(model.state_dict()) == set(before)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
