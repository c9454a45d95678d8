"""How far off a model has lately been: against a loop over numbers, and in what it does to intervals."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.models import random_model, steady
from training.conformal import calibrate
from training.data import WindowSet
from training.fit import predict
from training.recent_error import RecentError

STEPPABLE = ("standardize", "difference", "value-and-difference")


@pytest.mark.parametrize("window", [2, 3, 24, 48])
def test_a_window_and_its_values_one_by_one_give_the_mean_of_the_formula(window: int) -> None:
    rng = np.random.default_rng(window)
    said, came = rng.standard_normal((2, 4, window - 1))
    recent_error = RecentError(window).double()
    recent_error.usual.fill_(0.7)

    expected = np.full(4, 0.7)
    share = 2 / (max(window // 4, min(window, 8)) + 1)
    for t in range(window - 1):
        expected = (1 - share) * expected + share * np.abs(said[:, t] - came[:, t])
    found = recent_error(torch.from_numpy(said), torch.from_numpy(came))
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-12)

    state = recent_error.initial_state(found)
    for t in range(window - 1):
        state = state._replace(forecast=torch.from_numpy(said[:, t : t + 1]), has_forecast=torch.ones_like(found))
        state = state._replace(excess=recent_error.step(torch.from_numpy(came[:, t : t + 1]), state))
    np.testing.assert_allclose((recent_error.usual + state.excess)[:, 0].numpy(), expected, rtol=1e-12)


def test_weights_of_the_errors_and_of_the_usual_one_are_shares() -> None:
    recent_error = RecentError(9)
    assert recent_error.weights.sum().item() + recent_error.start == pytest.approx(1)
    assert (recent_error.weights.diff() > 0).all()


@pytest.mark.parametrize("transform", STEPPABLE)
@pytest.mark.parametrize("options", [{}, {"cell": "nn.lstm"}, {"horizon": 3, "output_depth": 2}])
@torch.no_grad()
def test_stepping_gives_the_intervals_of_the_window(transform: str, options: dict[str, int]) -> None:
    model = random_model(intervals="normalized", levels=(0.5, 0.9), transform=transform, **options).double()
    assert model.recent_error is not None
    model.recent_error.usual.fill_(0.3)
    window = torch.randn(6, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    state = model.initial_state(window[:, 0])
    for value_BF in window.unbind(dim=1):
        stepped, state = model.step(value_BF, state)
    whole = model.predict(window)
    for one, other in ((stepped.lower, whole.lower), (stepped.upper, whole.upper)):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert whole.upper is not None
    assert (whole.upper - whole.next[..., None])[:, 0, 0].std() > 0


@pytest.mark.parametrize("horizon", [1, 3])
@torch.no_grad()
def test_beside_a_linear_skip_each_forecast_is_of_what_came_until_then(horizon: int) -> None:
    """Said of the window with nothing in front of its last values: inputs of 0, which tell the cells nothing either."""
    window = 12
    model = random_model(
        window=window, intervals="normalized", levels=(0.9,), linear_skip=True, horizon=horizon, transform="standardize"
    ).double()
    assert model.linear_skip is not None
    assert model.recent_error is not None
    torch.nn.init.normal_(model.linear_skip.weight)
    model.recent_error.usual.fill_(0.3)
    x_BT1 = torch.randn(3, window, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    said, kernel_T = [], model.linear_skip.weight[0]
    for stop in range(1, window):
        ruled = (x_BT1 - model.transform.mean) / model.transform.scale
        head = model.head.point(model.head.features(model.stack(ruled[:, :stop])))[:, 0]
        said.append(head + ruled[:, :stop, 0] @ kernel_T[-stop:])
    came = (x_BT1[:, 1:, 0] - model.transform.target_mean[0]) / model.transform.target_scale[0]
    expected = model.recent_error(torch.stack(said, dim=1), came)
    torch.testing.assert_close(model.recent_error_after(x_BT1), expected, rtol=1e-12, atol=1e-12)
    predicted = model.predict(x_BT1)
    torch.testing.assert_close(predicted.next, model(x_BT1))
    assert predicted.upper is not None
    reach = (predicted.upper[..., 0] - predicted.next) / model.transform.target_scale
    torch.testing.assert_close(reach, expected * model.head.margin[1, :, 0])


def test_the_first_value_alone_has_the_usual_interval() -> None:
    model = steady(1.0, window=5, intervals="normalized", levels=(0.9,))
    assert model.recent_error is not None
    model.recent_error.usual.fill_(4)
    model.head.margin.fill_(3)
    value = torch.tensor([[100.0]])
    prediction, _ = model.step(value, model.initial_state(value))
    assert prediction.upper is not None
    assert prediction.upper.item() == 101 + 3 * 4


LEVEL = 0.9


def noise_that_grows(num_quiet: int, num_loud: int) -> NDArray[np.float64]:
    """White noise, four times as strong in the later part."""
    noise = np.random.default_rng(5).standard_normal((num_quiet + num_loud, 1))
    noise[num_quiet:] *= 4
    return noise


def shares_inside(intervals: str) -> tuple[float, float]:
    """Calibrated on quiet values: the share of quiet and of loud values to come that lie inside."""
    values = noise_that_grows(6000, 3000)
    model = steady(0.0, window=24, intervals=intervals, levels=(LEVEL,))

    def windows(start: int, stop: int) -> WindowSet:
        return WindowSet(values=values, rows=np.arange(start, stop), window=24)

    def share(test: WindowSet) -> float:
        said = predict(model, test)
        assert said.lower is not None
        assert said.upper is not None
        came = test.targets()[:, :, None]
        return float(((said.lower <= came) & (came <= said.upper)).mean())

    calibrate(model, windows(24, 3000))
    return share(windows(3000, 6000)), share(windows(6024, 9000))


def test_intervals_hold_where_the_noise_has_grown() -> None:
    """Constant ones hold what a normal variable of four times the deviation leaves them."""
    quiet, loud = shares_inside("conformal")
    assert quiet == pytest.approx(LEVEL, abs=0.02)
    assert loud == pytest.approx(math.erf(1.645 / 4 / math.sqrt(2)), abs=0.03)
    quiet, loud = shares_inside("normalized")
    assert quiet == pytest.approx(LEVEL, abs=0.02)
    # The usual error, of quiet times, counts for decay ** 23 = 0.3 % of what they are measured by.
    assert loud == pytest.approx(LEVEL, abs=0.02)
