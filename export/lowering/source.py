"""A fitted model as the lowerings see it: sizes, cells and named float32 weights."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.cells import Cell
from training.cells.convert import gru_reset_after_from_torch, lstm_from_torch
from training.model import CellStack, ModelConfig, RecurrentModel, TorchStack
from training.recent_error import RecentError
from training.transform import TRANSFORMS, Difference

Weights = dict[str, NDArray[np.float32]]


class Placed(NamedTuple):
    """A cell, and the prefix of its weights' names."""

    cell: Cell
    prefix: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a lowering needs; `layers` hold the cells of one step in the order they run, bottom layer first.

    With `reads_raw` the weights take what was not standardised, with `says_raw` they give it (export.lowering.folding).
    """

    config: ModelConfig
    layers: list[list[Placed]]
    weights: Weights
    not_steppable: str
    target_scale: float
    reads_raw: bool = False
    says_raw: bool = False

    @property
    def carries_last(self) -> bool:
        """Whether the transform carries the last value from step to step."""
        return issubclass(TRANSFORMS[self.config.transform], Difference)

    @property
    def steppable(self) -> bool:
        """Whether there is a step graph."""
        return not self.not_steppable


def source_of(model: RecurrentModel) -> Source:
    """Take a model apart. torch.nn layers become the hand-written cells that equal them."""
    layers = [
        [Placed(cell, f"layers.{k}" if j == 0 else f"transitions.{k}.{j - 1}") for j, cell in enumerate(cells)]
        for k, cells in enumerate(_cells(model.stack))
    ]
    named: dict[str, Tensor] = {
        f"{placed.prefix}.{name}": parameter
        for cells in layers
        for placed in cells
        for name, parameter in placed.cell.named_parameters()
    }
    for prefix, module in (("head", model.head), ("transform", model.transform), ("scaling", model.scaling)):
        named |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    if model.linear_skip is not None:
        # [T·I, K], as MatMul takes it.
        named["linear_skip"] = model.linear_skip.weight.T
    weights = {name: value.detach().numpy().astype(np.float32) for name, value in named.items()}
    if model.config.intervals != "none":
        # [2, K, L] in units of the scaling, below first.
        weights["head.margin"] = weights["head.margin"] * weights["transform.target_scale"][:, None]
    if model.recent_error is not None:
        weights |= _of_recent_error(model.recent_error, weights)
    return Source(
        config=model.config,
        layers=layers,
        weights=weights,
        not_steppable=model.why_not_steppable,
        # Errors further ahead are larger, so the smallest unit is the strictest.
        target_scale=float(model.transform.target_scale.min()),
    )


def _of_recent_error(module: RecentError, weights: Weights) -> Weights:
    """Its own arrays, and those by which the next value alone is said."""
    own = {
        "usual": module.usual,
        "start": module.start * module.usual.double(),
        "weights": module.weights[:, None],
    }
    return {f"recent_error.{name}": value.numpy().astype(np.float32) for name, value in own.items()} | {
        "recent_error.point.weight": weights["head.point.weight"][:1],
        "recent_error.point.bias": weights["head.point.bias"][:1],
        "recent_error.mean": weights["transform.target_mean"][:1],
        "recent_error.scale": weights["transform.target_scale"][:1],
    }


def _cells(stack: CellStack | TorchStack) -> list[list[Cell]]:
    if isinstance(stack, CellStack):
        return stack.cells()
    recurrent = stack.recurrent
    if isinstance(recurrent, nn.LSTM):
        return [[lstm_from_torch(recurrent, layer)] for layer in range(recurrent.num_layers)]
    return [[gru_reset_after_from_torch(recurrent, layer)] for layer in range(recurrent.num_layers)]
