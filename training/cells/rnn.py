"""The simple (Elman) recurrent cell."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class RNNState(NamedTuple):
    """What the cell carries between steps: `h` [B, H]."""

    h: Tensor


class RNNCell(nn.Module):
    """One step of the simple recurrent network (Elman 1990, "Finding Structure in Time").

    With [x; h] the input and the old state side by side:

        h' = tanh(W [x; h] + b)

    The whole memory passes through the tanh and the matrix at every step, which is why it fades.

    Shapes: x [B, F], h [B, H], W [H, F + H], b [H].
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.hidden = nn.Linear(input_size + hidden_size, hidden_size)

    def initial_state(self, x_BF: Tensor) -> RNNState:
        """The empty memory, zeros, for a batch like `x_BF`."""
        return RNNState(h=x_BF.new_zeros(len(x_BF), self.hidden_size))

    def forward(self, x_BF: Tensor, state: RNNState) -> RNNState:
        """The state after seeing `x_BF`."""
        combined = torch.cat((x_BF, state.h), dim=1)
        return RNNState(h=torch.tanh(self.hidden(combined)))
