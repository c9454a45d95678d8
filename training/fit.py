"""Fit a model: AdamW, Huber loss, one-cycle rate, clipped gradients, early stopping with the best weights kept.

    fit = Fit(model, parts, options, seed=0)
    while not fit.is_finished:
        metrics = fit.run_epoch()
    fit.restore_best()

Nothing here reads a clock or writes a file. `state_dict` holds all that the rest of the fit depends on, in the middle
of an epoch too: a fit that loads it goes on to the same weights, bit for bit.

Shapes: B batch, T window, F features, K horizons, M windows.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.augment import Augmentation
from training.config import FitOptions
from training.data import Parts, WindowSet
from training.data.order import epoch_order
from training.errors import FitError
from training.loss import Loss
from training.model import LossTerms, RecurrentModel
from training.workers import Workers

EVALUATION_BATCH = 4096


class EpochMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `metrics.jsonl`.

    `step` counts the optimiser's steps so far. Losses are in the transform's units, `validation_rmse` is that of the
    next value in raw units.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    validation_rmse: float
    learning_rate: float
    is_best: bool


class Inputs(NamedTuple):
    """A batch on the device: windows [B, T, F], targets [B, K] and what else the model takes."""

    window: Tensor
    target: Tensor
    time_seconds: Tensor | None
    series: Tensor | None


def inputs_of(windows: WindowSet, chosen: NDArray[np.int64], model: RecurrentModel) -> Inputs:
    """The windows numbered `chosen` as the model takes them, on its device and in its precision."""
    batch = windows.batch(chosen, np.float32)
    like = model.transform.mean

    def whole_numbers(array: NDArray[np.int64] | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(like.device)

    return Inputs(
        # Through float32 whatever the fit's precision: it is what a served model is asked with.
        window=torch.from_numpy(batch.windows).to(like),
        target=torch.from_numpy(batch.targets).to(like),
        time_seconds=whole_numbers(batch.time_seconds) if model.needs_time else None,
        series=whole_numbers(batch.series) if model.needs_series else None,
    )


def batches_of(windows: WindowSet, model: RecurrentModel, workers: Workers | None = None) -> Iterator[Inputs]:
    """All windows in order, in large batches, or this worker's share of each."""
    for start in range(0, len(windows), EVALUATION_BATCH):
        chosen = np.arange(start, min(start + EVALUATION_BATCH, len(windows)))
        if workers is not None:
            chosen = chosen[workers.rank :: workers.count]
        if len(chosen):
            yield inputs_of(windows, chosen, model)


class Predicted(NamedTuple):
    """Predictions for M windows in raw units: `next` [M, K], `lower` and `upper` [M, K, L] or None."""

    next: NDArray[np.float64]
    lower: NDArray[np.float64] | None
    upper: NDArray[np.float64] | None


@torch.no_grad()
def predict(model: RecurrentModel, windows: WindowSet) -> Predicted:
    """The model's predictions for every window."""
    found = [model.predict(batch.window, batch.time_seconds, batch.series) for batch in batches_of(windows, model)]

    def joined(name: str) -> NDArray[np.float64] | None:
        parts = [getattr(prediction, name) for prediction in found]
        return None if parts[0] is None else torch.cat(parts).double().cpu().numpy()

    following = joined("next")
    assert following is not None
    return Predicted(following, joined("lower"), joined("upper"))


class Fit:
    """One fit, an epoch at a time. The model's weights are those of the last epoch until `restore_best`."""

    def __init__(
        self, model: RecurrentModel, parts: Parts, options: FitOptions, *, seed: int, workers: Workers | None = None
    ) -> None:
        """The model lies on the device to fit on already; `workers` share every batch."""
        self.model = model
        self.options = options
        self.history: list[EpochMetrics] = []
        # Steps taken of the epoch that is under way, and the sum of its windows' losses.
        self.position = 0
        # That of the newest step.
        self._learning_rate = math.nan
        self._parts = parts
        self._seed = seed
        self._workers = workers or Workers()
        self._device = model.transform.mean.device
        self._augmentation = Augmentation(model, parts.fit, options.augment, seed=seed) if options.augment else None
        self._total = torch.zeros((), dtype=torch.float64, device=self._device)
        self._loss = Loss(model, huber_delta=options.huber_delta, num_steps=options.loss_steps)
        self._shared_loss = self._workers.wrap(self._loss)
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimiser, max_lr=options.learning_rate, total_steps=options.epochs * self.steps_per_epoch
        )
        self._averaged = Average(model, options.average)
        self._best = copy.deepcopy(model.state_dict())
        if self._workers.count > 1:
            # After its first pass DDP lays the gradients out anew, and from three workers on their sums are then added
            # up in another order. That pass is this one, so that a fit that was resumed adds up in the same order.
            self._backward(np.zeros(1, dtype=np.int64), weight=0.0)

    @property
    def windows_per_epoch(self) -> int:
        """How many windows an epoch sees: all there are, or as many as the options allow."""
        return min(len(self._parts.fit), self.options.epoch_windows or len(self._parts.fit))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(self.windows_per_epoch / self.options.batch_size)

    @property
    def best(self) -> EpochMetrics | None:
        """The epoch whose weights are kept."""
        return next((metrics for metrics in reversed(self.history) if metrics.is_best), None)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done or validation has not improved for `patience` of them."""
        if self.options.refit_epochs:
            return len(self.history) >= self.options.refit_epochs
        if len(self.history) >= self.options.epochs:
            return True
        return self.best is not None and len(self.history) - self.best.epoch >= self.options.patience

    def run_epoch(self, after_step: Callable[[], None] = lambda: None) -> EpochMetrics:
        """Fit on every window once, in a new random order, from where the epoch stands.

        `after_step` is called between steps, where `state_dict` may be taken. Raises FitError if the loss is not a
        finite number.
        """
        epoch = len(self.history) + 1
        size = self.options.batch_size
        order = epoch_order(len(self._parts.fit), seed=self._seed, epoch=epoch)
        while self.position < self.steps_per_epoch:
            start = self.position * size
            chosen = order[start : min(start + size, self.windows_per_epoch)]
            self._learning_rate = float(self._schedule.get_last_lr()[0])
            self._step(chosen)
            self.position += 1
            after_step()
        self._averaged.swap()
        validation_loss, validation_rmse = self._validate()
        train_loss = self._total.item() / self.windows_per_epoch
        if not math.isfinite(train_loss + validation_loss):
            raise FitError(
                f"the loss is not finite in epoch {epoch}; learning_rate is {self.options.learning_rate}, "
                "a lower one may help"
            )
        metrics = EpochMetrics(
            epoch=epoch,
            step=epoch * self.steps_per_epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_rmse=validation_rmse,
            learning_rate=self._learning_rate,
            # Where validation is fitted on, it cannot tell which epoch is the best.
            is_best=bool(self.options.refit_epochs) or self.best is None or validation_loss < self.best.validation_loss,
        )
        if metrics.is_best:
            self._best = copy.deepcopy(self.model.state_dict())
        self._averaged.swap()
        self.history.append(metrics)
        self.position = 0
        self._total.zero_()
        return metrics

    def _step(self, chosen: NDArray[np.int64]) -> None:
        own, weight = self._workers.share(np.arange(len(chosen)))
        drawn = None
        if self._augmentation is not None:
            drawn = self._augmentation.draws(len(self.history) + 1, self.position, len(chosen))[own]
        loss_B = self._backward(chosen[own], weight, drawn)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        self._optimiser.step()
        self._schedule.step()
        self._averaged.update()
        self._total += self._workers.total(loss_B.double().sum() * (weight > 0))

    def _backward(self, own: NDArray[np.int64], weight: float, drawn: NDArray[np.float64] | None = None) -> Tensor:
        """Leave the gradients of all workers' windows, by their weights, in the model; the loss [B] of our own."""
        self._optimiser.zero_grad()
        inputs = inputs_of(self._parts.fit, own, self.model)
        if self._augmentation is not None and drawn is not None:
            window, target = self._augmentation.vary(inputs.window, inputs.target, inputs.series, drawn)
            inputs = inputs._replace(window=window, target=target)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.options.precision == "mixed"):
            loss_B = self._shared_loss(inputs.window, inputs.target, inputs.time_seconds, inputs.series)
        torch.autograd.backward(loss_B.mean() * weight)
        detached: Tensor = loss_B.detach()
        return detached

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """The loss, and the RMSE of the next value in raw units."""
        sums = torch.zeros(2, dtype=torch.float64, device=self._device)
        for inputs in batches_of(self._parts.validation, self.model, self._workers):
            terms: LossTerms = self.model.loss_terms(*inputs)
            predicted_BK = self.model(inputs.window, inputs.time_seconds, inputs.series)
            error_B = (predicted_BK - inputs.target)[:, 0]
            sums += torch.stack((self._loss.of(terms).double().sum(), error_B.double().square().sum()))
        loss, squares = self._workers.total(sums).tolist()
        count = len(self._parts.validation)
        return loss / count, math.sqrt(squares / count)

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the model."""
        self.model.load_state_dict(self._best)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the fit depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "averaged": self._averaged.state(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "position": self.position,
            "total": self._total,
            "learning_rate": self._learning_rate,
            "best": self._best,
            "history": msgspec.to_builtins(self.history),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another fit with the same model, windows and options stood."""
        self.model.load_state_dict(state["model"])
        self._averaged.load(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.position = state["position"]
        self._total.copy_(state["total"])
        self._learning_rate = state["learning_rate"]
        self._best = copy.deepcopy(state["best"])
        self.history = msgspec.convert(state["history"], list[EpochMetrics])


class Average:
    """A running average of the weights (Polyak & Juditsky 1992): average = decay · average + (1 - decay) · weights.

    It forgets faster at first, min(decay, (1 + n) / (10 + n)) after n steps, so that the weights drawn at random do not
    linger. With decay 0 there is none, and nothing is kept.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = [parameter.detach() for parameter in model.parameters()]
        self._decay = decay
        self.weights = [parameter.clone() for parameter in self._parameters] if decay else []
        self._steps = 0

    def update(self) -> None:
        """Take in the weights of another step."""
        if self.weights:
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
            self._steps += 1
            torch._foreach_lerp_(self.weights, self._parameters, 1 - decay)

    def swap(self) -> None:
        """Exchange the average and the model's weights."""
        for parameter, average in zip(self._parameters, self.weights, strict=False):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """All that the next update depends on."""
        return {"weights": self.weights, "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where another average stood."""
        self._steps = state["steps"]
        for average, kept in zip(self.weights, state["weights"], strict=True):
            average.copy_(kept)
