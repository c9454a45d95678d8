"""Cells on top of each other: hand-written ones, or torch's own behind the same interface.

Shapes: B batch, T window, I input channels, H hidden size.
"""

import warnings
from typing import cast

import torch
from torch import Tensor, nn

from training.cells import HAND_WRITTEN, TORCH, Cell, GRUState, LSTMState, State
from training.cells.fast import final_state, run_layer


class CellStack(nn.Module):
    """Layers of hand-written cells, and the ways to deepen them (Pascanu et al. 2013).

    Layer k reads the output of layer k - 1 at the same step, so low features are taken first and high ones of
    them. With `residual`, what a layer reads is added to what it says: output_k = h_k + output_{k-1}, for k ≥ 1.
    With `transition_depth` d, a step runs d cells one after the other on the same state; the input enters the
    first, and the others transform what is remembered:

        s = cell_1(x, s);  s = cell_2(·, s);  …;  s = cell_d(·, s)
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, *, num_layers: int, transition_depth: int, residual: bool
    ) -> None:
        super().__init__()
        make = HAND_WRITTEN[cell]
        self.residual = residual
        self.layers = nn.ModuleList(
            [make(input_size if k == 0 else hidden_size, hidden_size) for k in range(num_layers)]
        )
        with warnings.catch_warnings():
            # A weight for no input has no element to draw, and torch warns of it.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.transitions = nn.ModuleList(
                [nn.ModuleList([make(0, hidden_size) for _ in range(transition_depth - 1)]) for _ in range(num_layers)]
            )

    def cells(self) -> list[list[Cell]]:
        """The cells of one step in the order they run, by layer, bottom layer first."""
        return [
            [cast("Cell", layer), *(cast("Cell", cell) for cell in cast("nn.ModuleList", transitions))]
            for layer, transitions in zip(self.layers, self.transitions, strict=True)
        ]

    def initial_state(self, x_BI: Tensor) -> list[State]:
        """Zeros for every layer; layers above the first only take batch size and dtype from `x_BI`."""
        return [cells[0].initial_state(x_BI) for cells in self.cells()]

    def step(self, x_BI: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """One step through every layer: the top output [B, H] and the new states."""
        after: list[State] = []
        for k, (cells, state) in enumerate(zip(self.cells(), states, strict=True)):
            first, *others = cells
            state = first(x_BI, state)  # noqa: PLW2901 (the layer's state moves on)
            for cell in others:
                state = cell(x_BI[:, :0], state)  # noqa: PLW2901 (the same)
            after.append(state)
            x_BI = state.h + x_BI if self.residual and k else state.h
        return x_BI, after

    def forward(self, x_BTI: Tensor) -> Tensor:
        """The top layer's output after the last step, [B, H], from zero state.

        While fitting, layers of one cell take the fast path of `training.cells.fast`, which computes the same
        numbers; otherwise the cells themselves are stepped, and theirs is the answer that every check refers to.
        """
        if self._is_fast:
            return self._forward_fast(x_BTI)
        states = self.initial_state(x_BTI[:, 0])
        for x_BI in x_BTI.unbind(dim=1):
            h_BH, states = self.step(x_BI, states)
        return h_BH

    def outputs(self, x_BTI: Tensor) -> Tensor:
        """The top layer's output after every step, [B, T, H], from zero state; computed as `forward` computes."""
        if self._is_fast:
            x_TBI = x_BTI.transpose(0, 1)
            for k, (cell,) in enumerate(self.cells()):
                outputs_TBH, _ = run_layer(cell, x_TBI)
                x_TBI = outputs_TBH + x_TBI if self.residual and k else outputs_TBH
            return x_TBI.transpose(0, 1)
        states = self.initial_state(x_BTI[:, 0])
        outputs = []
        for x_BI in x_BTI.unbind(dim=1):
            h_BH, states = self.step(x_BI, states)
            outputs.append(h_BH)
        return torch.stack(outputs, dim=1)

    @property
    def _is_fast(self) -> bool:
        """Whether this is a fit of layers of one cell."""
        return self.training and not any(len(cast("nn.ModuleList", cells)) for cells in self.transitions)

    def _forward_fast(self, x_BTI: Tensor) -> Tensor:
        """A layer at a time over the whole sequence."""
        x_TBI = x_BTI.transpose(0, 1)
        *lower, (top,) = self.cells()
        for k, (cell,) in enumerate(lower):
            outputs_TBH, _ = run_layer(cell, x_TBI)
            x_TBI = outputs_TBH + x_TBI if self.residual and k else outputs_TBH
        h_BH = final_state(top, x_TBI).h
        return h_BH + x_TBI[-1] if self.residual and lower else h_BH


class TorchStack(nn.Module):
    """torch.nn.LSTM or GRU behind the same interface, to stand beside the hand-written ones."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, *, num_layers: int) -> None:
        super().__init__()
        self.recurrent = TORCH[cell](input_size, hidden_size, num_layers=num_layers, batch_first=True)

    def initial_state(self, x_BI: Tensor) -> list[State]:
        """Zeros for every layer."""
        zeros = x_BI.new_zeros(len(x_BI), self.recurrent.hidden_size)
        one: State = LSTMState(h=zeros, c=zeros) if isinstance(self.recurrent, nn.LSTM) else GRUState(h=zeros)
        return [one] * self.recurrent.num_layers

    def step(self, x_BI: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """One step through every layer: the top output [B, H] and the new states."""
        stacked = [torch.stack(field) for field in zip(*states, strict=True)]
        if isinstance(self.recurrent, nn.LSTM):
            _, (h_LBH, c_LBH) = self.recurrent(x_BI[:, None], (stacked[0], stacked[1]))
            return h_LBH[-1], [LSTMState(h=h, c=c) for h, c in zip(h_LBH, c_LBH, strict=True)]
        _, h_LBH = self.recurrent(x_BI[:, None], stacked[0])
        return h_LBH[-1], [GRUState(h=h) for h in h_LBH]

    def forward(self, x_BTI: Tensor) -> Tensor:
        """The top layer's output after the last step, [B, H], from zero state."""
        return self.outputs(x_BTI)[:, -1]

    def outputs(self, x_BTI: Tensor) -> Tensor:
        """The top layer's output after every step, [B, T, H], from zero state."""
        outputs_BTH: Tensor = self.recurrent(x_BTI)[0]
        return outputs_BTH
