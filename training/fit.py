"""Fit a model: AdamW, Huber loss, one-cycle rate, clipped gradients, early stopping with the best weights kept.

    fit = Fit(model, parts, options, seed=0)
    while not fit.is_finished:
        metrics = fit.run_epoch()
    fit.restore_best()

Nothing here reads a clock or writes a file. `state_dict` holds all that the rest of the fit depends on: a fit
that loads it goes on to the same weights, bit for bit.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import FitOptions
from training.data import Parts, WindowSet
from training.errors import DataError, FitError
from training.model import ModelConfig, RecurrentModel

# Scales are taken of at most this many numbers, spread evenly over the windows.
SCALE_SAMPLE = 2**24
EVALUATION_BATCH = 4096
# float32 steps above this share of the scale would be noise that a model can see.
RESOLUTION = 0.02


class EpochMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `metrics.jsonl`. Losses are Huber in the transform's units, `validation_rmse` is in raw units."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_rmse: float
    learning_rate: float
    is_best: bool


class WindowTensors:
    """A WindowSet in single precision, handed out in batches."""

    def __init__(self, windows: WindowSet) -> None:
        self.values = torch.from_numpy(windows.values).float()
        self.rows = torch.from_numpy(windows.rows)
        self.offsets = torch.arange(-windows.window, 0)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The windows [B, T, F] and targets [B, 1] numbered `chosen` [B]."""
        rows = self.rows[chosen]
        return self.values[rows[:, None] + self.offsets], self.values[rows, :1]


def new_model(config: ModelConfig, windows: WindowSet, *, seed: int) -> RecurrentModel:
    """A model with weights drawn from `seed` and the transform's scales taken from the windows to fit on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RecurrentModel(config)
    limit = max(1, SCALE_SAMPLE // (config.window * config.num_features))
    model.transform.fit(windows.windows(limit), windows.targets(limit))
    return model


def check_resolution(model: RecurrentModel, windows: WindowSet, features: Sequence[str]) -> None:
    """Refuse a series whose changes drown in single precision, which is what models see and servers take.

    Raises DataError naming the column if float32 numbers of its size lie further apart than RESOLUTION of the
    scale that the transform works in.
    """
    largest_F = np.abs(windows.values).max(axis=0)
    scale_F = model.transform.scale.double().numpy()
    scale_F[0] = model.transform.target_scale.item()
    for name, largest, scale in zip(features, largest_F, scale_F, strict=True):
        spacing = float(np.spacing(np.float32(largest)))
        if spacing > RESOLUTION * scale:
            raise DataError(
                f"column {name!r} reaches {largest:g}, where single-precision numbers are {spacing:g} apart; its "
                f"changes are of scale {scale:g} and need {RESOLUTION * scale:g}: subtract a constant from the column"
            )


@torch.no_grad()
def predict(model: RecurrentModel, windows: WindowSet) -> NDArray[np.float64]:
    """The model's prediction for every window, [M], in raw units."""
    tensors = WindowTensors(windows)
    batches = torch.split(torch.arange(len(tensors)), EVALUATION_BATCH)
    predicted_M: NDArray[np.float64] = (
        torch.cat([model(tensors.batch(chosen)[0])[:, 0] for chosen in batches]).double().numpy()
    )
    return predicted_M


class Fit:
    """One fit, an epoch at a time. The model's weights are those of the last epoch until `restore_best`."""

    def __init__(self, model: RecurrentModel, parts: Parts, options: FitOptions, *, seed: int) -> None:
        self.model = model
        self.options = options
        self.history: list[EpochMetrics] = []
        self._fit = WindowTensors(parts.fit)
        self._validation = WindowTensors(parts.validation)
        self._generator = torch.Generator().manual_seed(seed)
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser,
            max_lr=options.learning_rate,
            total_steps=options.epochs * math.ceil(len(self._fit) / options.batch_size),
        )
        self._best = copy.deepcopy(model.state_dict())

    @property
    def best(self) -> EpochMetrics | None:
        """The epoch whose weights are kept."""
        return next((metrics for metrics in reversed(self.history) if metrics.is_best), None)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done or validation has not improved for `patience` of them."""
        if len(self.history) >= self.options.epochs:
            return True
        return self.best is not None and len(self.history) - self.best.epoch >= self.options.patience

    def run_epoch(self) -> EpochMetrics:
        """Fit on every window once, in a new random order. Raises FitError if the loss is not a finite number."""
        total = 0.0
        order = torch.randperm(len(self._fit), generator=self._generator)
        for chosen in torch.split(order, self.options.batch_size):
            self._optimiser.zero_grad()
            loss = nn.functional.huber_loss(*self.model.loss_terms(*self._fit.batch(chosen)))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
            self._optimiser.step()
            total += loss.item() * len(chosen)
            learning_rate = float(self._schedule.get_last_lr()[0])
            self._schedule.step()
        validation_loss, validation_rmse = self._validate()
        epoch = len(self.history) + 1
        if not math.isfinite(total + validation_loss):
            raise FitError(
                f"the loss is not finite in epoch {epoch}; learning_rate is {self.options.learning_rate}, "
                "a lower one may help"
            )
        metrics = EpochMetrics(
            epoch=epoch,
            train_loss=total / len(self._fit),
            validation_loss=validation_loss,
            validation_rmse=validation_rmse,
            learning_rate=learning_rate,
            is_best=self.best is None or validation_loss < self.best.validation_loss,
        )
        if metrics.is_best:
            self._best = copy.deepcopy(self.model.state_dict())
        self.history.append(metrics)
        return metrics

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Huber loss in the transform's units and RMSE in raw units."""
        loss = squares = 0.0
        for chosen in torch.split(torch.arange(len(self._validation)), EVALUATION_BATCH):
            y_B1, target_B1 = self.model.loss_terms(*self._validation.batch(chosen))
            loss += nn.functional.huber_loss(y_B1, target_B1, reduction="sum").item()
            squares += (y_B1 - target_B1).square().sum().item()
        count = len(self._validation)
        return loss / count, math.sqrt(squares / count) * self.model.transform.target_scale.item()

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the model."""
        self.model.load_state_dict(self._best)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the fit depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self._generator.get_state(),
            "best": self._best,
            "history": msgspec.to_builtins(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another fit with the same model, windows and options stood."""
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["generator"])
        self._best = copy.deepcopy(state["best"])
        self.history = msgspec.convert(state["history"], list[EpochMetrics])
