"""Recurrent cells written out by hand, one file each, to be read beside a textbook.

Shapes: B batch, F input features, H hidden size. A cell maps one step's input and state to the next state:

    state' = cell(x_BF, state)

and a state is a NamedTuple of [B, H] tensors whose first field, `h`, is also the cell's output.
"""

from collections.abc import Callable

from torch import nn

from training.cells.gru import GRUCell, GRUResetAfterCell, GRUState
from training.cells.lstm import LSTMCell, LSTMState
from training.cells.rnn import RNNCell, RNNState

Cell = RNNCell | LSTMCell | GRUCell | GRUResetAfterCell
State = RNNState | LSTMState | GRUState

HAND_WRITTEN: dict[str, Callable[[int, int], Cell]] = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru-reset-after": GRUResetAfterCell,
}
TORCH: dict[str, type[nn.LSTM | nn.GRU]] = {"nn.lstm": nn.LSTM, "nn.gru": nn.GRU}
CELL_KINDS = (*HAND_WRITTEN, *TORCH)

__all__ = [
    "CELL_KINDS",
    "HAND_WRITTEN",
    "TORCH",
    "Cell",
    "GRUCell",
    "GRUResetAfterCell",
    "GRUState",
    "LSTMCell",
    "LSTMState",
    "RNNCell",
    "RNNState",
    "State",
]
