"""The gates of one step, by name, and the state that they make.

Shapes: B batch, I input channels, H hidden size.

A cell's forward pass keeps its gates to itself. Here they are computed once more from the same Linear layers;
`recombine` puts them together again, and that this is the cell's own next state, bit for bit, is tested.
"""

import torch
from torch import Tensor

from training.cells import Cell, GRUCell, GRUResetAfterCell, GRUState, LSTMCell, LSTMState, RNNCell, RNNState, State

# Each [B, H], by the name a person reads.
Gates = dict[str, Tensor]


def gates(cell: Cell, x_BI: Tensor, state: State) -> Gates:
    """What every gate says at the step from `state` that reads `x_BI`. The equations are in training/cells."""
    combined = torch.cat((x_BI, state.h), dim=1)
    if isinstance(cell, LSTMCell):
        return {
            "input gate": torch.sigmoid(cell.input_gate(combined)),
            "forget gate": torch.sigmoid(cell.forget_gate(combined)),
            "output gate": torch.sigmoid(cell.output_gate(combined)),
            "cell gate": torch.tanh(cell.cell_gate(combined)),
        }
    if isinstance(cell, RNNCell):
        return {"state": torch.tanh(cell.hidden(combined))}
    z = torch.sigmoid(cell.update_gate(combined))
    r = torch.sigmoid(cell.reset_gate(combined))
    return {"update gate": z, "reset gate": r, "hidden candidate": torch.tanh(_candidate(cell, x_BI, state.h, r))}


def _candidate(cell: GRUCell | GRUResetAfterCell, x_BI: Tensor, h_BH: Tensor, r_BH: Tensor) -> Tensor:
    """What goes into the candidate's tanh: reset before the matmul, or after it."""
    before: Tensor
    if isinstance(cell, GRUCell):
        before = cell.hidden_candidate(torch.cat((x_BI, r_BH * h_BH), dim=1))
    else:
        before = cell.hidden_candidate_input(x_BI) + r_BH * cell.hidden_candidate_hidden(h_BH)
    return before


def recombine(said: Gates, state: State) -> State:
    """The next state that these gates make of `state`."""
    if isinstance(state, LSTMState):
        c = said["forget gate"] * state.c + said["input gate"] * said["cell gate"]
        return LSTMState(h=said["output gate"] * torch.tanh(c), c=c)
    if isinstance(state, RNNState):
        return RNNState(h=said["state"])
    z = said["update gate"]
    return GRUState(h=(1 - z) * state.h + z * said["hidden candidate"])
