"""Long short-term memory."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """What the cell carries between steps: the output `h` [B, H] and the memory `c` [B, H]."""

    h: Tensor
    c: Tensor


class LSTMCell(nn.Module):
    """One step of the LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000; no peepholes).

    Three gates and a memory. With [x; h] the input and the old output side by side:

        i  = σ(W_i [x; h] + b_i)        input gate: how much of the new goes in
        f  = σ(W_f [x; h] + b_f)        forget gate: how much of the old stays
        o  = σ(W_o [x; h] + b_o)        output gate: how much of the memory is shown
        g  = tanh(W_g [x; h] + b_g)     cell gate: the new content
        c' = f * c + i * g              the memory: added to, never squashed
        h' = o * tanh(c')

    The memory changes by a sum, so what was written once can stay for as long as f is near 1.
    Stacked-weight formats order the gates differently: torch i, f, g, o; ONNX i, o, f, c.

    Shapes: x [B, F]; h, c and every gate [B, H]; each W [H, F + H], each b [H].
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.forget_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.output_gate = nn.Linear(input_size + hidden_size, hidden_size)
        self.cell_gate = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, x_BF: Tensor) -> LSTMState:
        """The empty memory, zeros, for a batch like `x_BF`."""
        zeros = x_BF.new_zeros(len(x_BF), self.hidden_size)
        return LSTMState(h=zeros, c=zeros)

    def forward(self, x_BF: Tensor, state: LSTMState) -> LSTMState:
        """The state after seeing `x_BF`."""
        combined = torch.cat((x_BF, state.h), dim=1)

        i = torch.sigmoid(self.input_gate(combined))
        f = torch.sigmoid(self.forget_gate(combined))
        o = torch.sigmoid(self.output_gate(combined))
        g = torch.tanh(self.cell_gate(combined))

        c = f * state.c + i * g
        h = o * torch.tanh(c)
        return LSTMState(h=h, c=c)
