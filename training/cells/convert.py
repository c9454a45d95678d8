"""Rewrite torch.nn's stacked weights as hand-written cells that compute the same numbers."""

import torch
from torch import Tensor, nn

from training.cells.gru import GRUResetAfterCell
from training.cells.lstm import LSTMCell


def _layer_weights(module: nn.LSTM | nn.GRU, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The input matrix, hidden matrix, input bias and hidden bias of one layer, detached."""
    names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
    w_ih, w_hh, b_ih, b_hh = (getattr(module, f"{name}{layer}").detach() for name in names)
    return w_ih, w_hh, b_ih, b_hh


def _assign(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def lstm_from_torch(module: nn.LSTM, layer: int = 0) -> LSTMCell:
    """The hand-written cell that equals layer `layer` of a torch.nn.LSTM (its rows are i, f, g, o).

    Torch keeps two biases per gate, which always act as their sum.
    """
    w_ih, w_hh, b_ih, b_hh = _layer_weights(module, layer)
    cell = LSTMCell(w_ih.shape[1], module.hidden_size).to(w_ih.dtype)
    weights = torch.cat((w_ih, w_hh), dim=1).chunk(4)
    biases = (b_ih + b_hh).chunk(4)
    gates = (cell.input_gate, cell.forget_gate, cell.cell_gate, cell.output_gate)
    for gate, weight, bias in zip(gates, weights, biases, strict=True):
        _assign(gate, weight, bias)
    return cell


def gru_reset_after_from_torch(module: nn.GRU, layer: int = 0) -> GRUResetAfterCell:
    """The hand-written cell that equals layer `layer` of a torch.nn.GRU (its rows are r, z, n).

    Torch's update gate keeps what ours replaces: z_ours = 1 - z_torch = σ(-a), so its weights are negated.
    """
    w_ih, w_hh, b_ih, b_hh = _layer_weights(module, layer)
    cell = GRUResetAfterCell(w_ih.shape[1], module.hidden_size).to(w_ih.dtype)
    r_weight, z_weight, _ = torch.cat((w_ih, w_hh), dim=1).chunk(3)
    r_bias, z_bias, _ = (b_ih + b_hh).chunk(3)
    _assign(cell.reset_gate, r_weight, r_bias)
    _assign(cell.update_gate, -z_weight, -z_bias)
    _assign(cell.hidden_candidate_input, w_ih.chunk(3)[2], b_ih.chunk(3)[2])
    _assign(cell.hidden_candidate_hidden, w_hh.chunk(3)[2], b_hh.chunk(3)[2])
    return cell
