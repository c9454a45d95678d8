"""The loss after several steps of a window: each is the loss of the shorter window that ends there."""

from typing import Any

import pytest
import torch

from training.cells import CELL_KINDS
from training.loss import Loss
from training.model import ModelConfig, RecurrentModel

B, T, F, K, S = 4, 7, 2, 2, 3

# Float64, the same sums in another order.
ROUNDING = 1e-9


def make(cell: str, transform: str, **options: Any) -> tuple[RecurrentModel, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    config = ModelConfig(
        cell=cell, window=T, num_features=F, hidden_size=5, num_layers=2, transform=transform, horizon=K, **options
    )
    model = RecurrentModel(config)
    windows = torch.randn(B, T, F, dtype=torch.float64) * 3 + 10
    targets = torch.randn(B, K, dtype=torch.float64) * 3 + 10
    model.transform.fit(windows.numpy(), targets.numpy())
    return model.double(), windows, targets


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("transform", ["standardize", "difference", "value-and-difference"])
@pytest.mark.parametrize("cell", CELL_KINDS)
def test_each_step_is_a_shorter_window(cell: str, transform: str, is_training: bool) -> None:
    model, windows, targets = make(cell, transform)
    model.train(is_training)
    terms = model.sequence_terms(windows, targets, num_steps=S)
    assert terms.output.shape == terms.target.shape == (B, S, K)
    series = torch.cat((windows[:, :, 0], targets), dim=1)
    for place, stop in enumerate(range(T - S + 1, T + 1)):
        shorter = model.loss_terms(windows[:, :stop], series[:, stop : stop + K])
        assert (terms.output[:, place] - shorter.output).abs().max().item() <= ROUNDING
        assert (terms.target[:, place] - shorter.target).abs().max().item() <= ROUNDING


def test_a_scale_by_series_and_a_deep_transition_go_along() -> None:
    model, windows, targets = make("gru", "difference", scaling="series", num_series=2, transition_depth=2)
    series = torch.tensor([[0], [1], [-1], [0]])
    terms = model.sequence_terms(windows, targets, None, series, num_steps=T)
    shorter = model.loss_terms(windows[:, :4], torch.stack((windows[:, 4, 0], windows[:, 5, 0]), dim=1), None, series)
    assert (terms.output[:, 3] - shorter.output).abs().max().item() <= ROUNDING
    assert (terms.target[:, 3] - shorter.target).abs().max().item() <= ROUNDING


def test_the_loss_of_all_steps_is_the_mean_of_theirs() -> None:
    model, windows, targets = make("lstm", "difference")
    together = Loss(model, huber_delta=0.5, num_steps=S)(windows, targets, None, None)
    terms = model.sequence_terms(windows, targets, num_steps=S)
    each = torch.nn.functional.huber_loss(terms.output, terms.target, reduction="none", delta=0.5)
    assert together.shape == (B,)
    assert (together - each.mean(dim=(1, 2))).abs().max().item() <= ROUNDING


def test_intervals_are_learnt_after_the_last_step_alone() -> None:
    """More lessons for the prediction leave those for its intervals as they were."""
    model, windows, targets = make("gru", "difference", intervals="quantile", levels=(0.5, 0.9))
    one, many = (Loss(model, huber_delta=1.0, num_steps=num_steps) for num_steps in (1, S))
    gradients = []
    for loss in (one, many):
        model.zero_grad()
        loss(windows, targets, None, None).mean().backward()
        assert model.head.distance.weight.grad is not None
        gradients.append(model.head.distance.weight.grad.clone())
    assert (gradients[0] - gradients[1]).abs().max().item() <= ROUNDING
    assert gradients[0].abs().max().item() > 0
