"""The recurrent model: transform, a stack of cells, one linear head.

Shapes: B batch, T window, F features, H hidden size.
"""

from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from training.cells import CELL_KINDS, HAND_WRITTEN, TORCH, Cell, GRUState, LSTMState, State
from training.transform import TRANSFORMS, Transform, TransformState


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that fixes a model's shape. Raises ValueError naming the field, its value and the limit."""

    cell: str
    window: int
    num_features: int
    hidden_size: int
    num_layers: int
    transform: str

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.cell not in CELL_KINDS:
            raise ValueError(f"cell is {self.cell!r}; it must be one of {', '.join(CELL_KINDS)}")
        if self.transform not in TRANSFORMS:
            raise ValueError(f"transform is {self.transform!r}; it must be one of {', '.join(TRANSFORMS)}")
        for name in ("window", "num_features", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


class CellStack(nn.Module):
    """Layers of hand-written cells: layer k reads the output of layer k - 1 at the same step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        make = HAND_WRITTEN[config.cell]
        sizes = [config.num_features] + [config.hidden_size] * config.num_layers
        self.layers = nn.ModuleList([make(size, config.hidden_size) for size in sizes[:-1]])

    def cells(self) -> list[Cell]:
        """The cells, bottom layer first."""
        return [cast("Cell", layer) for layer in self.layers]

    def initial_state(self, x_BF: Tensor) -> list[State]:
        """Zeros for every layer; layers above the first only take batch size and dtype from `x_BF`."""
        return [cell.initial_state(x_BF) for cell in self.cells()]

    def step(self, x_BF: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """One step through every layer: the top output [B, H] and the new states."""
        after: list[State] = []
        for layer, state in zip(self.layers, states, strict=True):
            after.append(layer(x_BF, state))
            x_BF = after[-1].h
        return x_BF, after

    def forward(self, x_BTF: Tensor) -> Tensor:
        """The top layer's output after the last step, [B, H], from zero state."""
        states = self.initial_state(x_BTF[:, 0])
        for x_BF in x_BTF.unbind(dim=1):
            h_BH, states = self.step(x_BF, states)
        return h_BH


class TorchStack(nn.Module):
    """torch.nn.LSTM or GRU behind the same interface, to stand beside the hand-written ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.recurrent = TORCH[config.cell](
            config.num_features, config.hidden_size, num_layers=config.num_layers, batch_first=True
        )

    def initial_state(self, x_BF: Tensor) -> list[State]:
        """Zeros for every layer."""
        zeros = x_BF.new_zeros(len(x_BF), self.recurrent.hidden_size)
        one: State = LSTMState(h=zeros, c=zeros) if isinstance(self.recurrent, nn.LSTM) else GRUState(h=zeros)
        return [one] * self.recurrent.num_layers

    def step(self, x_BF: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        """One step through every layer: the top output [B, H] and the new states."""
        stacked = [torch.stack(field) for field in zip(*states, strict=True)]
        if isinstance(self.recurrent, nn.LSTM):
            _, (h_LBH, c_LBH) = self.recurrent(x_BF[:, None], (stacked[0], stacked[1]))
            return h_LBH[-1], [LSTMState(h=h, c=c) for h, c in zip(h_LBH, c_LBH, strict=True)]
        _, h_LBH = self.recurrent(x_BF[:, None], stacked[0])
        return h_LBH[-1], [GRUState(h=h) for h in h_LBH]

    def forward(self, x_BTF: Tensor) -> Tensor:
        """The top layer's output after the last step, [B, H], from zero state."""
        outputs_BTH, _ = self.recurrent(x_BTF)
        return cast("Tensor", outputs_BTH[:, -1])


class ModelState(msgspec.Struct, frozen=True):
    """All that is carried between two steps: every layer's state and the transform's."""

    layers: list[State]
    transform: TransformState


class RecurrentModel(nn.Module):
    """Predicts the next value of a series, in its own units, from a window [B, T, F] or one value at a time.

        x, anchor = transform.encode(window)
        h         = stack(x)                        the top layer's last output
        next      = transform.decode(head(h), anchor)

    Stepping through a window from `initial_state` gives the same prediction as `forward`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.transform: Transform = TRANSFORMS[config.transform](config.num_features)
        self.stack: CellStack | TorchStack = CellStack(config) if config.cell in HAND_WRITTEN else TorchStack(config)
        self.head = nn.Linear(config.hidden_size, 1)

    def forward(self, window_BTF: Tensor) -> Tensor:
        """The next value, [B, 1], in raw units."""
        x_BTF, anchor_B1 = self.transform.encode(window_BTF)
        y_B1 = self.head(self.stack(x_BTF))
        return self.transform.decode(y_B1, anchor_B1)

    def loss_terms(self, window_BTF: Tensor, target_B1: Tensor) -> tuple[Tensor, Tensor]:
        """The output and where it should have been, both [B, 1] in the transform's units, for the loss."""
        x_BTF, anchor_B1 = self.transform.encode(window_BTF)
        return self.head(self.stack(x_BTF)), self.transform.encode_target(target_B1, anchor_B1)

    def initial_state(self, value_BF: Tensor) -> ModelState:
        """All zeros: nothing seen. Raises ValueError if the transform cannot be stepped."""
        if not self.transform.steppable:
            raise ValueError(f"transform {self.transform.kind!r} needs the whole window; the model cannot be stepped")
        return ModelState(layers=self.stack.initial_state(value_BF), transform=self.transform.initial_state(value_BF))

    def step(self, value_BF: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """See one value [B, F]: the next value [B, 1] in raw units, and the new state."""
        x_BF, anchor_B1, transform_state = self.transform.step(value_BF, state.transform)
        h_BH, layers = self.stack.step(x_BF, state.layers)
        return self.transform.decode(self.head(h_BH), anchor_B1), ModelState(layers=layers, transform=transform_state)
