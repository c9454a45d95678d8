"""A fitted model as the lowerings see it: sizes, cell kinds and named float32 weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from training.cells import Cell
from training.cells.convert import gru_reset_after_from_torch, lstm_from_torch
from training.model import CellStack, ModelConfig, RecurrentModel, TorchStack


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a lowering needs; `cells` are the layers, bottom first."""

    config: ModelConfig
    cells: list[Cell]
    weights: dict[str, NDArray[np.float32]]
    steppable: bool
    target_scale: float


def source_of(model: RecurrentModel) -> Source:
    """Take a model apart. torch.nn layers become the hand-written cells that equal them."""
    cells = _cells(model.stack)
    weights = {
        f"layers.{k}.{name}": parameter.detach().numpy().astype(np.float32)
        for k, cell in enumerate(cells)
        for name, parameter in cell.named_parameters()
    }
    weights |= {f"head.{name}": value.detach().numpy() for name, value in model.head.named_parameters()}
    weights |= {f"transform.{name}": value.numpy() for name, value in model.transform.named_buffers()}
    return Source(
        config=model.config,
        cells=cells,
        weights=weights,
        steppable=model.transform.steppable,
        target_scale=float(model.transform.target_scale),
    )


def _cells(stack: CellStack | TorchStack) -> list[Cell]:
    if isinstance(stack, CellStack):
        return stack.cells()
    recurrent = stack.recurrent
    if isinstance(recurrent, nn.LSTM):
        return [lstm_from_torch(recurrent, layer) for layer in range(recurrent.num_layers)]
    return [gru_reset_after_from_torch(recurrent, layer) for layer in range(recurrent.num_layers)]
