"""What a run was asked to do; `config.json` of its folder."""

import math
from importlib import metadata

import msgspec
import torch

from training.cells import HAND_WRITTEN
from training.data import DataOptions, Provenance, SplitOptions
from training.model import ModelConfig
from training.scaling import SCALINGS
from training.transform import TRANSFORMS

LIBRARIES = ("torch", "numpy", "safetensors", "msgspec", "pyarrow")

DEVICES = ("cpu", "cuda")
PRECISIONS = ("float32", "float64", "mixed")

# Where the number of epochs is left open: about this many optimiser steps, within these limits.
DEFAULT_STEPS = 2000
DEFAULT_EPOCHS = (10, 250)


class FitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to fit. Raises ValueError naming the field, its value and the limit.

    `learning_rate` is the peak of the one-cycle schedule, `patience` the epochs without a better validation loss
    before the fit stops, `clip_norm` the longest gradient, `threads` torch's threads for one operation. The
    weights depend on `threads`: sums are added up in another order. `huber_delta` is where the loss turns from a
    square to a line, in the transform's units; `average` the decay of a running average of the weights, which is what
    is judged and kept (0: the weights themselves). The loss is taken after each of a window's last `loss_steps`.
    `augment` is the share of windows that are moved and stretched at random (training.augment). An epoch sees
    `epoch_windows` windows at most (0: all). `precision` is float32, float64, or mixed (bfloat16 in
    matmuls, for GPUs), `device` cpu or cuda. With `refit_epochs` the validation part is fitted on too, for so many
    epochs of the schedule, and the last weights are kept (0: the best ones on validation).
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    patience: int = 50
    clip_norm: float = 1.0
    threads: int = 1
    huber_delta: float = 1.0
    average: float = 0.0
    loss_steps: int = 1
    augment: float = 0.0
    epoch_windows: int = 0
    refit_epochs: int = 0
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted with."""
        for name in ("epochs", "batch_size", "patience", "threads", "loss_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "clip_norm", "huber_delta"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0 and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must be at least 0 and finite")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be at least 0 and below 1")
        if not 0 <= self.augment <= 1:
            raise ValueError(f"augment is {self.augment}; it must be from 0 to 1")
        if self.epoch_windows < 0:
            raise ValueError(f"epoch_windows is {self.epoch_windows}; it must be at least 0")
        if not 0 <= self.refit_epochs <= self.epochs:
            raise ValueError(f"refit_epochs is {self.refit_epochs}; it must be from 0 to epochs, {self.epochs}")
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device!r}; it must be one of {', '.join(DEVICES)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; it must be one of {', '.join(PRECISIONS)}")

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are held in."""
        return torch.float64 if self.precision == "float64" else torch.float32


def check_fits(options: FitOptions, model: ModelConfig) -> None:
    """Raise ValueError unless the model can be fitted in the way asked for."""
    if options.loss_steps > model.window:
        raise ValueError(f"loss_steps is {options.loss_steps}; the window has {model.window} steps")
    if options.precision == "mixed" and options.device == "cpu" and model.cell not in HAND_WRITTEN:
        raise ValueError("precision is 'mixed'; torch's own cells take it on a GPU alone")
    is_stepped = TRANSFORMS[model.transform].steppable and SCALINGS[model.scaling].steppable
    if options.loss_steps > 1 and not is_stepped:
        raise ValueError(
            f"loss_steps is {options.loss_steps}; with transform {model.transform!r} and scaling {model.scaling!r} "
            "a step sees the window's end, so it must be 1"
        )


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run depends on. `features` are the names of the columns, the target first."""

    schema_version: int = 1
    model: ModelConfig
    features: tuple[str, ...]
    data: DataOptions
    provenance: Provenance
    split: SplitOptions
    fit: FitOptions
    seed: int
    library_versions: dict[str, str]


def default_epochs(num_windows: int, batch_size: int) -> int:
    """Epochs that come to about DEFAULT_STEPS steps, so that small and large series are both fitted enough."""
    steps = math.ceil(num_windows / batch_size)
    lowest, highest = DEFAULT_EPOCHS
    return min(max(math.ceil(DEFAULT_STEPS / steps), lowest), highest)


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a run's numbers depend on."""
    return {name: metadata.version(name) for name in LIBRARIES}
