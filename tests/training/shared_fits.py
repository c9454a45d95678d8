"""Fits by one process or by several that share every batch."""

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.build import new_model
from training.config import FitOptions
from training.data import Parts, WindowSet
from training.fit import Fit
from training.model import ModelConfig
from training.workers import Workers, join

WINDOW = 8
BATCH_SIZE = 32
STEPS_PER_EPOCH = 10
EPOCHS = 20


class Case(NamedTuple):
    """`left_over` windows are in the last batch of an epoch; `precision` as for a fit."""

    cell: str
    precision: str
    left_over: int


CASES = [
    *(Case(cell, precision, BATCH_SIZE) for cell in ("lstm", "gru") for precision in ("float32", "float64")),
    # A window more for the first worker, and nothing for the second.
    Case("lstm", "float64", 27),
    Case("gru", "float32", 1),
]


def noisy_wave(num_windows: int) -> Parts:
    """A wave with so much noise that its gradients never vanish."""
    steps = np.arange(WINDOW + num_windows + 80)
    noise = np.random.default_rng(0).normal(0, 1, len(steps))
    values = (100 + 10 * np.sin(steps / 5) + noise)[:, None]
    bounds = (WINDOW, WINDOW + num_windows, WINDOW + num_windows + 40, len(steps))
    sets = [WindowSet(values=values, rows=np.arange(*between), window=WINDOW) for between in pairwise(bounds)]
    return Parts(*sets)


def new_fit(case: Case, workers: Workers) -> Fit:
    """EPOCHS to go, with all that a fit may carry along: quantiles, an average, decay, windows that are varied."""
    parts = noisy_wave((STEPS_PER_EPOCH - 1) * BATCH_SIZE + case.left_over)
    config = ModelConfig(
        cell=case.cell,
        window=WINDOW,
        num_features=1,
        hidden_size=12,
        num_layers=1,
        transform="difference",
        intervals="quantile",
        levels=(0.9,),
    )
    model = new_model(config, parts.fit, seed=0)
    model.to(torch.float64 if case.precision == "float64" else torch.float32)
    options = FitOptions(
        epochs=EPOCHS,
        patience=EPOCHS,
        batch_size=BATCH_SIZE,
        precision=case.precision,
        average=0.9,
        weight_decay=0.01,
        augment=0.5,
    )
    return Fit(model, parts, options, seed=0, workers=workers)


def fit(case: Case, workers: Workers, *, epochs: int = EPOCHS) -> Fit:
    """One that has had so many epochs."""
    return go_on(new_fit(case, workers), epochs)


def go_on(fit: Fit, epochs: int, after_step: Callable[[], None] = lambda: None) -> Fit:
    """The same fit, with so many epochs behind it."""
    while len(fit.history) < epochs:
        fit.run_epoch(after_step)
    return fit


def flat(fit: Fit) -> Tensor:
    """All weights, their average, and the losses of every epoch, one after the other in float64."""
    state = fit.state_dict()
    tensors = [*state["model"].values(), *state["averaged"]["weights"], *fit.model.parameters()]
    losses = [[line.train_loss, line.validation_loss, line.validation_rmse] for line in fit.history]
    return torch.cat([tensor.detach().double().flatten() for tensor in (*tensors, torch.tensor(losses))])


def fit_all(out: Path) -> None:
    """Fit all cases and keep what the first worker holds."""
    torch.set_num_threads(1)
    with join("cpu") as workers:
        found = [flat(fit(case, workers)) for case in CASES]
        if workers.is_first:
            torch.save({"count": workers.count, "found": found}, out)


def resume_in_the_second_epoch(out: Path) -> None:
    """Fit three epochs at once, and from a state within them; keep what came of both."""
    torch.set_num_threads(1)
    with join("cpu") as workers:
        case = Case("gru", "float32", 27)
        whole = fit(case, workers, epochs=1)
        states = []
        go_on(whole, 3, lambda: states.append(copy.deepcopy(whole.state_dict())))
        resumed = new_fit(case, workers)
        resumed.load_state_dict(states[4])
        go_on(resumed, 3)
        if workers.is_first:
            torch.save({"count": workers.count, "found": [flat(whole), flat(resumed)]}, out)
