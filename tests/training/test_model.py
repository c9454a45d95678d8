from typing import cast

import pytest
import torch
from torch import Tensor

from training.cells import CELL_KINDS, HAND_WRITTEN
from training.model import ModelConfig, RecurrentModel
from training.transform import TRANSFORMS

B, T, F = 3, 6, 2

# Float64, the same sums in another order.
ROUNDING = 1e-9
STEPPABLE = [kind for kind, cls in TRANSFORMS.items() if cls.steppable]


def make(
    *, cell: str = "lstm", num_layers: int = 1, transform: str = "difference", residual: bool = False
) -> tuple[RecurrentModel, Tensor]:
    """A model with scales as if fitted, in float64, and windows [B, T, F]."""
    torch.manual_seed(0)
    config = ModelConfig(
        cell=cell,
        window=T,
        num_features=F,
        hidden_size=8,
        num_layers=num_layers,
        transform=transform,
        residual=residual,
    )
    model = RecurrentModel(config)
    windows = torch.randn(B, T, F, dtype=torch.float64) * 20 + 100
    model.transform.fit(windows.numpy(), windows[:, -1, :1].numpy() + torch.randn(B, 1, dtype=torch.float64).numpy())
    return model.double().eval(), windows


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELL_KINDS)
@pytest.mark.parametrize("transform", STEPPABLE)
@torch.no_grad()
def test_stepping_through_a_window_gives_the_windows_prediction(transform: str, cell: str, num_layers: int) -> None:
    model, windows = make(cell=cell, num_layers=num_layers, transform=transform)
    state = model.initial_state(windows[:, 0])
    for value_BF in windows.unbind(dim=1):
        predicted, state = model.step(value_BF, state)
    assert predicted.next.shape == (B, 1)
    assert (predicted.next - model(windows)).abs().max().item() <= ROUNDING


def test_a_transform_of_the_whole_window_refuses_to_be_stepped_by_name() -> None:
    model, windows = make(transform="last-value")
    with pytest.raises(ValueError, match="'last-value' needs the whole window"):
        model.initial_state(windows[:, 0])


@pytest.mark.parametrize("transform", TRANSFORMS)
@torch.no_grad()
def test_the_loss_is_taken_where_the_prediction_is_made(transform: str) -> None:
    """A target equal to the prediction leaves no difference between the two loss terms."""
    model, windows = make(transform=transform)
    terms = model.loss_terms(windows, model(windows))
    assert (terms.output - terms.target).abs().max().item() <= ROUNDING


@pytest.mark.parametrize("transform", ["difference", "last-value"])
@torch.no_grad()
def test_a_window_moved_up_moves_its_prediction_as_much(transform: str) -> None:
    model, windows = make(transform=transform)
    assert (model(windows + 1000) - model(windows) - 1000).abs().max().item() <= ROUNDING


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("cell", "transformer", "cell is 'transformer'; it must be one of rnn, lstm"),
        ("transform", "log", "transform is 'log'; it must be one of standardize"),
        ("window", 0, "window is 0; it must be at least 1"),
        ("num_layers", -1, "num_layers is -1; it must be at least 1"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(field: str, value: object, message: str) -> None:
    good: dict[str, object] = {
        "cell": "gru", "window": 5, "num_features": 1, "hidden_size": 4, "num_layers": 1, "transform": "difference"
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ModelConfig(**(good | {field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("num_layers", [2, 3])
@pytest.mark.parametrize("cell", HAND_WRITTEN)
def test_the_fast_path_is_the_cells(cell: str, num_layers: int, residual: bool) -> None:
    """Fitting and judging see the same model: predictions and gradients, whatever the layers are connected by."""
    model, windows = make(cell=cell, num_layers=num_layers, residual=residual)
    targets = windows[:, -1, :1] + 5
    found = []
    for is_training in (True, False):
        model.train(is_training).zero_grad()
        terms = model.loss_terms(windows, targets)
        (terms.output - terms.target).square().sum().backward()  # type: ignore[no-untyped-call]
        gradients = [cast("Tensor", parameter.grad).clone() for parameter in model.parameters()]
        found.append((terms.output.detach(), *gradients))
    for fast, stepped in zip(*found, strict=True):
        assert stepped.abs().max().item() > 0
        assert (fast - stepped).abs().max().item() <= ROUNDING * max(1.0, stepped.abs().max().item())
