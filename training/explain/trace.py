"""A window through the model one step at a time, and the loss back through all of its states.

Shapes: T window, F features, I input channels, H hidden size, K horizons, L interval levels.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.cells import Cell, LSTMState, State
from training.cells.convert import gru_reset_after_from_torch, lstm_from_torch
from training.data import WindowBatch
from training.explain.gates import Gates, gates
from training.model import RecurrentModel
from training.stack import CellStack, TorchStack

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CellTrace:
    """One cell over the window: its gates by name and its memory, each [T, H].

    The memory is c of an LSTM and h of any other. `label` says which layer, and which cell of it, as 1 counts.
    """

    label: str
    cell: Cell
    gates: dict[str, Array]
    memory: Array


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """‖∂loss/∂h_t‖ and ‖∂loss/∂c_t‖ of a layer's state after each step, [T]; `c` is None without a memory c."""

    label: str
    h: Array
    c: Array | None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All that happened. `window` [T, F], `prediction` and `truth` [K], `lower` and `upper` [K, L] in raw units.

    `inputs` [T, I] is what the bottom layer read. `loss` is the mean over the horizons of the squared error in the
    transform's units. Cells and gradients: bottom layer first.
    """

    window: Array
    truth: Array
    prediction: Array
    lower: Array | None
    upper: Array | None
    inputs: Array
    loss: float
    cells: list[CellTrace]
    gradients: list[Gradients]


@dataclass
class _Tape:
    """Every call of a cell, in order: what went in, and what came out with its gradient kept."""

    label: str
    cell: Cell
    inputs: list[Tensor] = field(default_factory=list)
    gates: list[Gates] = field(default_factory=list)
    after: list[State] = field(default_factory=list)

    def record(self, cell: Any, given: tuple[Tensor, State], after: State) -> None:
        """A forward hook of the cell."""
        x_BI, before = given
        for part in after:
            part.retain_grad()
        self.inputs.append(x_BI)
        with torch.no_grad():
            self.gates.append(gates(cell, x_BI, before))
        self.after.append(after)

    def trace(self) -> CellTrace:
        memory = [after.c if isinstance(after, LSTMState) else after.h for after in self.after]
        return CellTrace(
            label=self.label,
            cell=self.cell,
            gates={name: _rows([said[name] for said in self.gates]) for name in self.gates[0]},
            memory=_rows(memory),
        )

    def gradients(self, label: str) -> Gradients:
        c = [after.c for after in self.after if isinstance(after, LSTMState)]
        return Gradients(label=label, h=_norms([after.h for after in self.after]), c=_norms(c) if c else None)


def trace(model: RecurrentModel, batch: WindowBatch) -> Trace:
    """Run the one window of `batch` through the cells and its squared error back; the model stays as it is."""
    model = with_own_cells(model)
    window_BTF, target_BK = torch.from_numpy(batch.windows).float(), torch.from_numpy(batch.targets).float()
    assert len(window_BTF) == 1, "one window is explained at a time"
    time_seconds_BT = (
        torch.from_numpy(batch.time_seconds) if model.needs_time and batch.time_seconds is not None else None
    )
    series_B1 = torch.from_numpy(batch.series) if model.needs_series and batch.series is not None else None
    with torch.enable_grad(), _recording(model) as layers:
        terms = model.loss_terms(window_BTF, target_BK, time_seconds_BT, series_B1)
        loss = (terms.output - terms.target).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        said = model.predict(window_BTF, time_seconds_BT, series_B1)
    return Trace(
        window=_array(window_BTF[0]),
        truth=_array(target_BK[0]),
        prediction=_array(said.next[0]),
        lower=None if said.lower is None else _array(said.lower[0]),
        upper=None if said.upper is None else _array(said.upper[0]),
        inputs=_rows(layers[0][0].inputs),
        loss=loss.item(),
        cells=[tape.trace() for tapes in layers for tape in tapes],
        gradients=[tapes[-1].gradients(_layer_label(k, len(layers))) for k, tapes in enumerate(layers)],
    )


def with_own_cells(model: RecurrentModel) -> RecurrentModel:
    """A copy in evaluation mode, where the cells are stepped; torch's layers rewritten as the cells that equal them."""
    model = copy.deepcopy(model).eval()
    if isinstance(model.stack, TorchStack):
        recurrent = model.stack.recurrent
        is_lstm = isinstance(recurrent, nn.LSTM)
        stack = CellStack(
            "lstm" if is_lstm else "gru-reset-after",
            recurrent.input_size,
            recurrent.hidden_size,
            num_layers=recurrent.num_layers,
            transition_depth=1,
            residual=False,
        )
        for layer in range(recurrent.num_layers):
            stack.layers[layer] = (
                lstm_from_torch(recurrent, layer)
                if isinstance(recurrent, nn.LSTM)
                else gru_reset_after_from_torch(recurrent, layer)
            )
        model.stack = stack.eval()
    return model


@contextmanager
def _recording(model: RecurrentModel) -> Iterator[list[list[_Tape]]]:
    """Tapes by layer, one for each of its cells, that run while the context is open."""
    assert isinstance(model.stack, CellStack)
    layers = model.stack.cells()
    tapes = [
        [_Tape(_layer_label(k, len(layers)) + _cell_label(d, len(cells)), cell) for d, cell in enumerate(cells)]
        for k, cells in enumerate(layers)
    ]
    handles = [tape.cell.register_forward_hook(tape.record) for layer in tapes for tape in layer]
    try:
        yield tapes
    finally:
        for handle in handles:
            handle.remove()
    assert all(len(tape.after) == model.config.window for layer in tapes for tape in layer), "a cell was not stepped"


def _layer_label(k: int, num_layers: int) -> str:
    return "" if num_layers == 1 else f"layer {k + 1} of {num_layers}"


def _cell_label(d: int, depth: int) -> str:
    return "" if depth == 1 else f", cell {d + 1} of {depth}"


def _array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def _rows(steps_1H: list[Tensor]) -> Array:
    """The one row of every step, [T, H]."""
    return _array(torch.cat(steps_1H))


def _norms(states_1H: list[Tensor]) -> Array:
    """The length of each state's gradient, [T]; a state that the loss does not see has none."""
    lengths = [0.0 if state.grad is None else state.grad.double().norm().item() for state in states_1H]
    return np.array(lengths)
