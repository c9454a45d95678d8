"""Every hand-written cell against the numpy loops, and the loops' power to tell gates apart."""

import inspect
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.cells.loops import LOOPS, Weights
from training.cells import HAND_WRITTEN, Cell, State

B, T, F, H = 3, 7, 2, 5

# The same sums in another order, float64.
ROUNDING = 1e-12
# What a wrong gate changes is of the order of the values, which are below 1.
WRONG = 1e-3

SWAPS = [
    (kind, one, other)
    for kind, gates in {
        "lstm": ("input_gate", "forget_gate", "output_gate", "cell_gate"),
        "gru": ("update_gate", "reset_gate", "hidden_candidate"),
        "gru-reset-after": ("update_gate", "reset_gate"),
    }.items()
    for one, other in combinations(gates, 2)
]


def make(kind: str) -> tuple[Cell, Tensor]:
    """A cell with weights large enough to bend the sigmoids, and a sequence [B, T, F], in float64."""
    torch.manual_seed(0)
    cell = HAND_WRITTEN[kind](F, H).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-1, 1)
    return cell, torch.randn(B, T, F, dtype=torch.float64)


@torch.no_grad()
def run(cell: Cell, x_BTF: Tensor) -> Tensor:
    """The last output, [B, H], from zero state."""
    state: State = cell.initial_state(x_BTF[:, 0])
    for x_BF in x_BTF.unbind(dim=1):
        state = cell(x_BF, state)
    return state.h


def worst(kind: str, cell: Cell, weights: Weights, x_BTF: Tensor) -> float:
    expected = np.stack([LOOPS[kind](weights, x_TF, H) for x_TF in x_BTF.numpy()])
    return float(np.abs(run(cell, x_BTF).numpy() - expected).max())


def as_numpy(cell: Cell) -> Weights:
    return {name: weight.numpy() for name, weight in cell.state_dict().items()}


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_a_cell_follows_its_equations(kind: str) -> None:
    cell, x_BTF = make(kind)
    assert worst(kind, cell, as_numpy(cell), x_BTF) <= ROUNDING


@pytest.mark.parametrize(("kind", "one", "other"), SWAPS)
def test_two_swapped_gates_are_noticed(kind: str, one: str, other: str) -> None:
    cell, x_BTF = make(kind)
    weights = as_numpy(cell)
    swapped = {name: weights[name.replace(one, "*").replace(other, one).replace("*", other)] for name in weights}
    assert worst(kind, cell, swapped, x_BTF) > WRONG


def test_the_two_gru_variants_are_told_apart() -> None:
    """With one set of weights, reset before and after the matmul give different outputs."""
    cell, x_BTF = make("gru-reset-after")
    weights = as_numpy(cell)
    split = (weights["hidden_candidate_input.weight"], weights["hidden_candidate_hidden.weight"])
    weights["hidden_candidate.weight"] = np.concatenate(split, axis=1)
    weights["hidden_candidate.bias"] = weights["hidden_candidate_input.bias"] + weights["hidden_candidate_hidden.bias"]
    assert worst("gru", cell, weights, x_BTF) > WRONG


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_a_cell_is_made_of_linear_layers_alone(kind: str) -> None:
    cell, _ = make(kind)
    assert {type(module) for module in cell.modules()} == {type(cell), nn.Linear}
    source = inspect.getsource(inspect.getmodule(type(cell)) or type(cell))
    assert "_VF" not in source
    assert not any(f"nn.{name}(" in source for name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"))


@pytest.mark.parametrize("kind", HAND_WRITTEN)
def test_a_row_of_a_batch_does_not_see_the_others(kind: str) -> None:
    cell, x_BTF = make(kind)
    alone = torch.cat([run(cell, row[None]) for row in x_BTF])
    assert (run(cell, x_BTF) - alone).abs().max().item() <= ROUNDING
