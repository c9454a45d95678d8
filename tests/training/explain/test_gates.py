"""The gates that a picture shows are the cell's own: put together again they give its next state, bit for bit."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from training.cells import HAND_WRITTEN, Cell, State
from training.explain.gates import gates, recombine

B, F, H = 3, 2, 5
GATES = {
    "rnn": ["state"],
    "lstm": ["input gate", "forget gate", "output gate", "cell gate"],
    "gru": ["update gate", "reset gate", "hidden candidate"],
    "gru-reset-after": ["update gate", "reset gate", "hidden candidate"],
}


def make(kind: str, num_inputs: int = F) -> tuple[Cell, Tensor, State]:
    """A cell with weights large enough to bend the sigmoids, an input and a state that is not zero."""
    torch.manual_seed(0)
    cell = HAND_WRITTEN[kind](num_inputs, H)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-2, 2)
    x_BI = torch.randn(B, num_inputs)
    zeros = cell.initial_state(x_BI)
    return cell, x_BI, type(zeros)(*(torch.randn(B, H) for _ in zeros))


@pytest.mark.parametrize("num_inputs", [F, 0])
@pytest.mark.parametrize("kind", HAND_WRITTEN)
@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_recombined_gates_are_the_cells_next_state(kind: str, num_inputs: int) -> None:
    cell, x_BI, state = make(kind, num_inputs)
    found = gates(cell, x_BI, state)
    assert list(found) == GATES[kind]
    assert all(gate.shape == (B, H) for gate in found.values())
    for ours, theirs in zip(recombine(found, state), cell(x_BI, state), strict=True):
        assert torch.equal(ours, theirs)


SWAPS = [
    (kind, one, other)
    for kind, names in GATES.items()
    for one, other in combinations([name for name in names if name != "reset gate"], 2)
    if (one, other) != ("input gate", "cell gate")  # a product of the two: their ranges tell them apart
]


@pytest.mark.parametrize(("kind", "one", "other"), SWAPS)
@torch.no_grad()
def test_two_swapped_gates_are_noticed(kind: str, one: str, other: str) -> None:
    cell, x_BI, state = make(kind)
    found = gates(cell, x_BI, state)
    swapped = {**found, one: found[other], other: found[one]}
    assert not torch.allclose(recombine(swapped, state).h, cell(x_BI, state).h, atol=1e-3)


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru-reset-after"])
@torch.no_grad()
def test_gates_are_shares_and_new_content_has_a_sign(kind: str) -> None:
    for name, gate in gates(*make(kind)).items():
        assert gate.abs().max() <= 1
        assert (gate.min() < 0) == (name in {"cell gate", "hidden candidate"}), name


@pytest.mark.parametrize(("kind", "name"), [("gru", "reset gate"), ("gru-reset-after", "reset gate")])
@torch.no_grad()
def test_the_reset_gate_is_the_one_that_the_candidate_sees_through(kind: str, name: str) -> None:
    """Shut by its bias, it makes the candidate forget: the same for any old state."""
    cell, x_BI, state = make(kind)
    cell.get_parameter("reset_gate.bias").fill_(-100)
    other = type(state)(*(part + 1 for part in state))
    found, elsewhere = gates(cell, x_BI, state), gates(cell, x_BI, other)
    assert found[name].max() < 1e-6
    assert torch.allclose(found["hidden candidate"], elsewhere["hidden candidate"], atol=1e-5)
    assert not torch.allclose(found["update gate"], elsewhere["update gate"], atol=1e-3)
