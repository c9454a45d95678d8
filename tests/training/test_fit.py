"""The loop alone: no files, no clock."""

from io import BytesIO

import pytest
import torch

from training.build import new_model
from training.config import FitOptions, default_epochs
from training.data import DataOptions, Parts, SplitOptions, load, split_windows
from training.errors import FitError
from training.fit import Fit, predict
from training.model import ModelConfig

CONFIG = ModelConfig(cell="gru", window=5, num_features=1, hidden_size=6, num_layers=1, transform="difference")


@pytest.fixture(scope="module")
def parts() -> Parts:
    return split_windows(load(DataOptions(source="counting-steps")), SplitOptions(), CONFIG.window)


def make(parts: Parts, *, seed: int = 0, epochs: int = 6, patience: int = 50, learning_rate: float = 0.01) -> Fit:
    options = FitOptions(epochs=epochs, batch_size=256, patience=patience, learning_rate=learning_rate)
    return Fit(new_model(CONFIG, parts.fit, seed=seed), parts, options, seed=seed)


def run(fit: Fit, epochs: int | None = None) -> Fit:
    while not fit.is_finished and (epochs is None or len(fit.history) < epochs):
        fit.run_epoch()
    return fit


def same_weights(one: Fit, other: Fit) -> bool:
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_one_seed_gives_one_set_of_weights(parts: Parts) -> None:
    first = run(make(parts))
    torch.manual_seed(99)  # The generator of everyone else has no say.
    assert same_weights(first, run(make(parts)))
    assert not same_weights(first, run(make(parts, seed=1)))


def test_a_new_model_leaves_the_global_generator_alone(parts: Parts) -> None:
    before = torch.random.get_rng_state()
    make(parts)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("stop", range(6))
def test_a_fit_goes_on_from_its_state_bit_for_bit(parts: Parts, stop: int) -> None:
    whole = run(make(parts))
    stored = BytesIO()
    torch.save(run(make(parts), stop).state_dict(), stored)
    stored.seek(0)
    resumed = make(parts)
    resumed.load_state_dict(torch.load(stored, weights_only=True))
    run(resumed)
    assert same_weights(whole, resumed)
    assert whole.history == resumed.history
    whole.restore_best()
    resumed.restore_best()
    assert same_weights(whole, resumed)


def test_stops_when_validation_no_longer_improves_and_keeps_the_best(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 3.0, 4.0, 3.0, 6.0, 1.0])
    monkeypatch.setattr(Fit, "_validate", lambda _: (next(losses), 0.0))
    fit = make(parts, epochs=50, patience=3)
    best = run(fit, 2).model.head.point.weight.detach().clone()
    run(fit)
    assert len(fit.history) == 5
    assert fit.best is not None
    assert fit.best.epoch == 2
    assert not torch.equal(fit.model.head.point.weight, best)
    fit.restore_best()
    assert torch.equal(fit.model.head.point.weight, best)


def test_validation_is_what_the_model_predicts(parts: Parts) -> None:
    fit = run(make(parts), 2)
    errors = predict(fit.model, parts.validation).next - parts.validation.targets()
    assert fit.history[-1].validation_rmse == pytest.approx((errors**2).mean() ** 0.5, rel=1e-4)


def test_the_loss_falls(parts: Parts) -> None:
    history = run(make(parts, epochs=20)).history
    assert history[-1].validation_loss < history[0].validation_loss / 10


def test_a_fit_that_leaves_the_finite_numbers_says_so(parts: Parts) -> None:
    fit = make(parts)
    with torch.no_grad():
        fit.model.head.point.bias.fill_(torch.nan)
    with pytest.raises(FitError, match=r"the loss is not finite in epoch 1; learning_rate is 0\.01"):
        fit.run_epoch()


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 0), ("patience", 0), ("threads", -1), ("learning_rate", 0.0), ("clip_norm", -1.0)],
)
def test_options_out_of_range_are_refused(field: str, value: float) -> None:
    good: dict[str, float] = {"epochs": 1}
    with pytest.raises(ValueError, match=rf"{field} is {value}; it must be"):
        FitOptions(**(good | {field: value}))  # type: ignore[arg-type]


def test_small_and_large_series_get_about_as_many_steps() -> None:
    assert default_epochs(64 * 20, 64) == 100
    assert default_epochs(10, 64) == 250
    assert default_epochs(10**7, 64) == 10
