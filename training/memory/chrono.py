"""Gates that keep for a while from the first step on: the chrono initialisation (Tallec & Ollivier 2018).

A gate that keeps the share f of a memory at every step remembers for about 1 / (1 - f) steps. With a bias of 0
that is two steps, and from a loss far behind nothing comes back that could open the gate. So each unit starts with a
time scale τ of its own, τ - 1 ~ U(1, T - 1), and a gate that keeps σ(log(τ - 1)) = 1 - 1/τ:

    LSTM    b_f =  log U(1, T - 1)      b_i = -b_f
    GRU     b_z = -log U(1, T - 1)      our update gate replaces: h' = (1 - z) * h + z * n

The simple RNN has no gate to set.
"""

import torch
from torch import Tensor, nn

from training.cells import Cell, GRUCell, GRUResetAfterCell, LSTMCell


@torch.no_grad()
def set_time_scales(cell: Cell, length: int) -> None:
    """Set the gate biases of `cell` for memories of up to `length` steps, from torch's random numbers."""
    if isinstance(cell, LSTMCell):
        keep_H = _log_uniform(cell.forget_gate, length)
        cell.forget_gate.bias.copy_(keep_H)
        cell.input_gate.bias.copy_(-keep_H)
    elif isinstance(cell, GRUCell | GRUResetAfterCell):
        cell.update_gate.bias.copy_(-_log_uniform(cell.update_gate, length))


def _log_uniform(gate: nn.Linear, length: int) -> Tensor:
    return torch.empty_like(gate.bias).uniform_(1, length - 1).log_()
