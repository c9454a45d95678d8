"""Windows moved and stretched at random, and what a model learns of them."""

from typing import Any

import numpy as np
import pytest
import torch

from training.augment import LEVEL, STRETCH, Augmentation
from training.build import new_model
from training.config import FitOptions
from training.data import Parts, WindowSet
from training.fit import Fit, predict
from training.model import ModelConfig, RecurrentModel

T, F, K = 6, 2, 2
SHARE = 0.25


def config(**options: Any) -> ModelConfig:
    defaults: dict[str, Any] = {
        "cell": "gru", "window": T, "num_features": 1, "hidden_size": 8, "num_layers": 1,
        "transform": "value-and-difference",
    }  # fmt: skip
    return ModelConfig(**defaults | options)


def windows_of(values_RF: np.ndarray[Any, np.dtype[np.float64]], *, horizon: int = 1) -> WindowSet:
    return WindowSet(values=values_RF, rows=np.arange(T, len(values_RF) - horizon + 1), window=T, horizon=horizon)


def noise(num_rows: int, num_features: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).standard_normal((num_rows, num_features)) * 3 + 50


def make(share: float = SHARE, **options: Any) -> Augmentation:
    windows = windows_of(noise(300, F), horizon=K)
    model = new_model(config(num_features=F, horizon=K, **options), windows, seed=0)
    return Augmentation(model, windows, share, seed=3)


def test_a_share_is_varied_by_so_much() -> None:
    drawn = make().draws(1, 0, 40_000)
    is_varied = drawn.any(axis=1)
    assert abs(is_varied.mean() - SHARE) < 0.02
    assert np.abs(drawn[is_varied].std(axis=0) / (LEVEL, STRETCH) - 1).max() < 0.03
    assert not make(0.0).draws(1, 0, 100).any()


def test_draws_follow_from_seed_epoch_and_place() -> None:
    first = make().draws(2, 5, 64)
    assert np.array_equal(first, make().draws(2, 5, 64))
    for epoch, position in ((2, 6), (3, 5), (5, 2)):
        assert not np.array_equal(first, make().draws(epoch, position, 64))


def test_a_window_and_what_follows_go_together() -> None:
    augmentation, generator = make(), torch.Generator().manual_seed(0)
    window = torch.randn(3, T, F, generator=generator, dtype=torch.float64) * 3 + 50
    target = torch.randn(3, K, generator=generator, dtype=torch.float64) * 3 + 50
    drawn = np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, np.log(3)]])
    varied, following = augmentation.vary(window, target, None, drawn)
    deviation = augmentation._deviation
    assert deviation == pytest.approx(3, rel=0.1)
    middle = window[:, :, 0].mean(dim=1)
    assert torch.allclose(varied[0], window[0])
    assert torch.allclose(following[0], target[0])
    assert torch.allclose(varied[1, :, 0], window[1, :, 0] + 2 * deviation)
    assert torch.allclose(following[1], target[1] + 2 * deviation)
    assert torch.allclose(varied[2, :, 0], middle[2] - deviation + 3 * (window[2, :, 0] - middle[2]))
    assert torch.allclose(following[2], middle[2] - deviation + 3 * (target[2] - middle[2]))
    assert torch.equal(varied[:, :, 1:], window[:, :, 1:]), "other features stay"


def test_a_series_is_moved_in_units_of_its_own() -> None:
    model = RecurrentModel(config(scaling="series", num_series=2))
    zero, unit = torch.tensor([[10.0], [1000.0]]), torch.tensor([[1.0], [100.0]])
    model.scaling.fill(zero, unit, torch.zeros(1), torch.ones(1))  # type: ignore[operator]  # of its kind
    augmentation = Augmentation(model, windows_of(noise(50)), 1.0, seed=0)
    window, target = torch.ones(2, T, 1), torch.ones(2, 1)
    varied, _ = augmentation.vary(window, target, torch.tensor([[0], [1]]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert varied[:, 0, 0].tolist() == [2, 101]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_have_their_limits(share: float) -> None:
    with pytest.raises(ValueError, match=r"augment is .*; it must be from 0 to 1"):
        FitOptions(epochs=1, augment=share)


def fitted(share: float) -> tuple[RecurrentModel, Fit]:
    """Of values that come back to 50, whatever they were."""
    windows = windows_of(noise(600))
    model = new_model(config(), windows, seed=0)
    fit = Fit(model, Parts(fit=windows, validation=windows, test=windows), FitOptions(epochs=30, augment=share), seed=0)
    while not fit.is_finished:
        fit.run_epoch()
    fit.restore_best()
    return model.eval(), fit


def test_what_never_was_is_predicted_as_what_was() -> None:
    """At another level and in another size."""
    elsewhere = windows_of(80 + (noise(600) - 50) / 2)
    errors = {}
    for share in (0.0, 0.5):
        model, fit = fitted(share)
        assert fit.history[-1].validation_rmse < 3.6, "where it knows the level, it uses it"
        errors[share] = np.sqrt(np.mean((predict(model, elsewhere).next - elsewhere.targets()) ** 2))
    assert errors[0.5] < 0.7 * errors[0.0]
