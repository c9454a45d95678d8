"""A layer as its definition has it: the named-gate cell, stepped over the sequence, with autograd's own gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.cells import HAND_WRITTEN, Cell, State
from training.cells.fast import run_layer

# The same sums in another order, and tanh as 2σ - 1, which rounds as numbers near 1 do: 1.2e-7 a time in float32,
# of which five steps and their gradients add up to 1e-6.
ROUNDING = {torch.float64: 1e-12, torch.float32: 5e-6}


def make_cell(kind: str, num_features: int, hidden: int, dtype: torch.dtype = torch.float64) -> Cell:
    """A cell with weights large enough to bend the sigmoids."""
    torch.manual_seed(0)
    cell = HAND_WRITTEN[kind](num_features, hidden).to(dtype)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.uniform_(-1, 1)
    return cell


def make_state(cell: Cell, x_TBF: Tensor) -> State:
    """A state that is not zeros."""
    zeros = cell.initial_state(x_TBF[0])
    return type(zeros)(*(torch.randn_like(field) for field in zeros))


def stepped(cell: Cell, x_TBF: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """What `run_layer` should give."""
    state = cell.initial_state(x_TBF[0]) if state is None else state
    outputs = []
    for x_BF in x_TBF.unbind():
        state = cell(x_BF, state)
        outputs.append(state.h)
    return torch.stack(outputs), state


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference, of numbers below 1 as it is, of larger ones in units of the largest."""
    assert one.shape == other.shape
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max() / other.abs().max().clamp(min=1))


def gradients(cell: Cell, outputs_TBH: Tensor, final: State, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Of a loss that weighs every output and every field of the final state by numbers of its own."""
    torch.manual_seed(1)
    loss = sum(((part * torch.randn_like(part)).sum() for part in (outputs_TBH, *final)), torch.zeros(()))
    return list(torch.autograd.grad(loss, (*cell.parameters(), *inputs)))


def worst(cell: Cell, x_TBF: Tensor, state: State | None) -> float:
    """The largest difference between the fast path and the stepped cell, forward and back."""
    inputs = [tensor.requires_grad_() for tensor in (x_TBF, *(state or ()))]
    sides = []
    for run in (run_layer, stepped):
        outputs_TBH, final = run(cell, x_TBF, state)
        sides.append([outputs_TBH, *final, *gradients(cell, outputs_TBH, final, inputs)])
    return max(distance(one, other) for one, other in zip(*sides, strict=True))
