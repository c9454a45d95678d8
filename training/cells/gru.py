"""Gated recurrent units: the reset gate before the matmul (the paper's), and after it (cuDNN's)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class GRUState(NamedTuple):
    """What the cell carries between steps: `h` [B, H]. There is no separate memory."""

    h: Tensor


class GRUCell(nn.Module):
    """One step of the GRU (Cho et al. 2014), reset gate applied before the matmul.

    Two gates. With [x; h] the input and the old state side by side:

        z  = σ(W_z [x; h] + b_z)            update gate: how much is replaced
        r  = σ(W_r [x; h] + b_r)            reset gate: how much of the past the candidate sees
        n  = tanh(W_n [x; r * h] + b_n)     hidden candidate
        h' = (1 - z) * h + z * n

    Torch and ONNX weight the last line the other way round, (1 - z) * n + z * h.

    Shapes: x [B, F]; h and every gate [B, H]; each W [H, F + H], each b [H].
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.update_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.reset_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.hidden_candidate = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, x_BF: Tensor) -> GRUState:
        """The empty memory, zeros, for a batch like `x_BF`."""
        return GRUState(h=x_BF.new_zeros(len(x_BF), self.hidden_size))

    def forward(self, x_BF: Tensor, state: GRUState) -> GRUState:
        """The state after seeing `x_BF`."""
        combined = torch.cat((x_BF, state.h), dim=1)

        z = torch.sigmoid(self.update_gate(combined))
        r = torch.sigmoid(self.reset_gate(combined))
        n = torch.tanh(self.hidden_candidate(torch.cat((x_BF, r * state.h), dim=1)))

        return GRUState(h=(1 - z) * state.h + z * n)


class GRUResetAfterCell(nn.Module):
    """One step of the GRU variant that cuDNN, torch.nn.GRU and ONNX (linear_before_reset=1) run.

    As GRUCell, but the reset gate acts on the product and not on the state, so the candidate has two
    matrices and two biases:

        n  = tanh(W_n x + b_n + r * (U_n h + c_n))

    Shapes: as GRUCell, with W_n [H, F] and U_n [H, H].
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.update_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.reset_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.hidden_candidate_input = nn.Linear(input_size, hidden_size)
        self.hidden_candidate_hidden = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, x_BF: Tensor) -> GRUState:
        """The empty memory, zeros, for a batch like `x_BF`."""
        return GRUState(h=x_BF.new_zeros(len(x_BF), self.hidden_size))

    def forward(self, x_BF: Tensor, state: GRUState) -> GRUState:
        """The state after seeing `x_BF`."""
        combined = torch.cat((x_BF, state.h), dim=1)

        z = torch.sigmoid(self.update_gate(combined))
        r = torch.sigmoid(self.reset_gate(combined))
        n = torch.tanh(self.hidden_candidate_input(x_BF) + r * self.hidden_candidate_hidden(state.h))

        return GRUState(h=(1 - z) * state.h + z * n)
