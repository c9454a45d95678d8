"""torch.nn with the same weights: the second oracle for the hand-written cells."""

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from training.cells import Cell, State
from training.cells.convert import gru_reset_after_from_torch, lstm_from_torch

B, T, F, H = 4, 9, 3, 6

# Torch sums the two products of a gate apart, and the update gate is mirrored: rounding, in float64.
ROUNDING = 1e-9
WRONG = 1e-3


def torch_module(kind: type[nn.LSTM | nn.GRU], num_layers: int) -> tuple[nn.LSTM | nn.GRU, Tensor]:
    torch.manual_seed(1)
    module = kind(F, H, num_layers=num_layers, batch_first=True).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
    return module, torch.randn(B, T, F, dtype=torch.float64)


def convert(module: nn.LSTM | nn.GRU) -> list[Cell]:
    layers = range(module.num_layers)
    if isinstance(module, nn.LSTM):
        return [lstm_from_torch(module, layer) for layer in layers]
    return [gru_reset_after_from_torch(module, layer) for layer in layers]


@torch.no_grad()
def outputs(cells: list[Cell], x_BTF: Tensor) -> Tensor:
    """The top layer's output at every step, [B, T, H]."""
    sequence = list(x_BTF.unbind(dim=1))
    for cell in cells:
        state: State = cell.initial_state(sequence[0])
        above = []
        for x_BF in sequence:
            state = cell(x_BF, state)
            above.append(state.h)
        sequence = above
    return torch.stack(sequence, dim=1)


def worst(cells: list[Cell], module: nn.LSTM | nn.GRU, x_BTF: Tensor) -> float:
    with torch.no_grad():
        expected = module(x_BTF)[0]
    return float((outputs(cells, x_BTF) - expected).abs().max())


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_converted_weights_compute_the_same_numbers(kind: type[nn.LSTM | nn.GRU], num_layers: int) -> None:
    module, x_BTF = torch_module(kind, num_layers)
    assert worst(convert(module), module, x_BTF) <= ROUNDING


@pytest.mark.parametrize(
    ("kind", "gates"),
    [
        (nn.LSTM, ("input_gate", "forget_gate", "output_gate", "cell_gate")),
        (nn.GRU, ("update_gate", "reset_gate")),
    ],
)
def test_gates_in_any_other_order_are_noticed(kind: type[nn.LSTM | nn.GRU], gates: tuple[str, ...]) -> None:
    module, x_BTF = torch_module(kind, 1)
    for order in permutations(gates):
        (cell,) = convert(module)
        shuffled = [getattr(cell, name) for name in order]
        for name, linear in zip(gates, shuffled, strict=True):
            setattr(cell, name, linear)
        difference = worst([cell], module, x_BTF)
        assert difference <= ROUNDING if order == gates else difference > WRONG, order


def test_an_update_gate_that_is_not_mirrored_is_noticed() -> None:
    """Torch's update gate keeps what ours replaces."""
    module, x_BTF = torch_module(nn.GRU, 1)
    (cell,) = convert(module)
    with torch.no_grad():
        for parameter in cell.get_submodule("update_gate").parameters():
            parameter.neg_()
    assert worst([cell], module, x_BTF) > WRONG
