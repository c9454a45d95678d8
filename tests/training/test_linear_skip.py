from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.__main__ import main
from training.build import new_model
from training.config import FitOptions, check_fits
from training.data import WindowSet
from training.fit import predict
from training.linear_skip import LinearSkip, least_squares
from training.model import ModelConfig

T = 4
# The ridge moves a least-squares prediction by about its own share.
CLOSE = 1e-4


def config(**options: Any) -> ModelConfig:
    defaults: dict[str, Any] = {
        "cell": "gru",
        "window": T,
        "num_features": 1,
        "hidden_size": 5,
        "num_layers": 1,
        "transform": "standardize",
        "linear_skip": True,
    }
    return ModelConfig(**defaults | options)


def windows_of(values_RF: NDArray[np.float64], *, horizon: int = 1) -> WindowSet:
    return WindowSet(values=values_RF, rows=np.arange(T, len(values_RF) - horizon + 1), window=T, horizon=horizon)


def noisy_wave(num_rows: int = 300, num_features: int = 1) -> NDArray[np.float64]:
    rows = np.arange(num_rows)[:, None] + np.arange(num_features)
    noise = np.random.default_rng(0).standard_normal((num_rows, num_features))
    wave: NDArray[np.float64] = 50 + 10 * np.sin(rows / 3) + noise
    return wave


def test_it_adds_each_input_times_its_weight() -> None:
    skip = LinearSkip(2, 2, 1)
    with torch.no_grad():
        skip.weight.copy_(torch.tensor([[1.0, 10, 100, 1000]]))
    assert skip(torch.tensor([[[1.0, 2], [3, 4]]])).tolist() == [[4321]]


def test_least_squares_find_what_made_the_targets() -> None:
    generator = torch.Generator().manual_seed(0)
    x_BTI = torch.randn(60, 3, 2, generator=generator, dtype=torch.float64)
    weight_KJ = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    bias_K = torch.tensor([5.0, -2.0], dtype=torch.float64)
    target_BK = x_BTI.flatten(1) @ weight_KJ.T + bias_K
    found_KJ, found_K = least_squares([(x_BTI[:7], target_BK[:7]), (x_BTI[7:], target_BK[7:])])
    assert (found_KJ - weight_KJ).abs().max().item() < CLOSE
    assert (found_K - bias_K).abs().max().item() < CLOSE


def test_inputs_that_follow_from_each_other_have_a_solution() -> None:
    x_BTI = torch.arange(12.0)[:, None, None].expand(-1, 2, 1)
    weight_KJ, bias_K = least_squares([(x_BTI, 3 * x_BTI[:, 0])])
    assert (weight_KJ.sum() - 3).abs().item() < CLOSE
    assert bias_K.abs().item() < CLOSE


@pytest.mark.parametrize(("num_features", "horizon"), [(1, 1), (2, 3)])
def test_a_new_model_predicts_as_the_autoregression_does(num_features: int, horizon: int) -> None:
    """By numpy's least squares, in raw units: standardising changes no prediction of theirs."""
    windows = windows_of(noisy_wave(num_features=num_features), horizon=horizon)
    model = new_model(config(num_features=num_features, horizon=horizon), windows, seed=0).eval()
    design = np.c_[windows.windows().reshape(len(windows), -1), np.ones(len(windows))]
    targets = windows.targets()
    expected = design @ np.linalg.lstsq(design, targets)[0]
    assert np.abs(predict(model, windows).next - expected).max() < CLOSE * targets.std()


@pytest.mark.parametrize("transform", ["difference", "value-and-difference", "last-value"])
@pytest.mark.parametrize("scaling", ["fit", "window"])
def test_whatever_the_cells_see_it_starts_nearer_than_the_last_value(transform: str, scaling: str) -> None:
    windows = windows_of(noisy_wave())
    model = new_model(config(transform=transform, scaling=scaling), windows, seed=0).eval()
    errors = predict(model, windows).next[:, 0] - windows.targets()[:, 0]
    naive = windows.windows()[:, -1, 0] - windows.targets()[:, 0]
    assert np.square(errors).mean() < 0.75 * np.square(naive).mean()


def test_the_cells_start_with_nothing_to_say_but_learn() -> None:
    windows = windows_of(noisy_wave())
    model = new_model(config(), windows, seed=0)
    targets = torch.from_numpy(windows.targets()).float()
    terms = model.loss_terms(torch.from_numpy(windows.windows()).float(), targets)
    (terms.output - terms.target).square().mean().backward()  # type: ignore[no-untyped-call]
    assert model.head.point.weight.abs().max().item() == 0
    gradient = model.head.point.weight.grad
    assert gradient is not None
    assert gradient.abs().max().item() > 0


def test_it_cannot_be_stepped() -> None:
    model = new_model(config(), windows_of(noisy_wave()), seed=0)
    assert model.why_not_steppable == "linear_skip needs the whole window"
    with pytest.raises(ValueError, match="linear_skip needs the whole window; the model cannot be stepped"):
        model.initial_state(torch.zeros(1, 1))


@pytest.mark.parametrize("horizon", [1, 3])
def test_after_each_step_it_sees_what_came_until_then(horizon: int) -> None:
    """As the whole window does that ends there, with nothing in front."""
    torch.manual_seed(0)
    skip = LinearSkip(T, 2, horizon).double()
    torch.nn.init.normal_(skip.weight)
    x_BTI = torch.randn(3, T, 2, dtype=torch.float64)
    found_BSK = skip.after_each(x_BTI, T)
    assert found_BSK.shape == (3, T, horizon)
    for step in range(1, T + 1):
        window_BTI = torch.cat((torch.zeros(3, T - step, 2, dtype=torch.float64), x_BTI[:, :step]), dim=1)
        assert torch.allclose(found_BSK[:, step - 1], skip(window_BTI), atol=1e-12)


def test_all_steps_can_be_taught() -> None:
    check_fits(FitOptions(epochs=1, loss_steps=2), config())
    torch.manual_seed(0)
    model = new_model(config(), windows_of(noisy_wave()), seed=0)
    windows, targets = torch.randn(2, T, 1), torch.randn(2, 1)
    every, last = model.sequence_terms(windows, targets, num_steps=T), model.loss_terms(windows, targets)
    assert torch.allclose(every.output[:, -1], last.output, atol=1e-5)
    assert torch.allclose(every.target[:, -1], last.target, atol=1e-5)


def test_fit_takes_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "wave.csv"
    data.write_text("value\n" + "\n".join(map(str, noisy_wave()[:, 0])) + "\n")
    words = [
        "fit",
        "--data",
        str(data),
        "--epochs",
        "2",
        "--hidden",
        "4",
        "--linear-skip",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    assert "AR(5)" in capsys.readouterr().out
