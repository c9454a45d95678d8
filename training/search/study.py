"""Trials of a search: fits judged on the validation part, kept in a folder, continued from there."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from training.build import check_resolution, new_model
from training.commands import FitRequest, prepare
from training.data import Dataset
from training.errors import DataError, FitError, OptionError
from training.fit import Fit
from training.search.space import suggest
from training.transform import TRANSFORMS

JOURNAL = "trials.log"
NAME = "search"
# Trials before the median of the others ends one early.
UNPRUNED_TRIALS = 5
# And the share of its epochs that a trial has in any case, in percent.
UNPRUNED_PERCENT = 20

# From the options of a trial to the fit they ask for.
MakeRequest = Callable[[list[str]], FitRequest]


class SearchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to choose among, and how much may be spent on it: trials in all, and minutes of this call (None: no limit).

    `transforms` are those that what all trials share leaves open; `is_steppable` says whether their scaling lets a
    model be taught after each step, `can_skip` whether their intervals let it see the whole window at once.

    Raises ValueError naming the field, its value and the limit.
    """

    cells: tuple[str, ...]
    windows: tuple[int, ...]
    trials: int
    minutes: float | None
    seed: int
    transforms: tuple[str, ...] = tuple(TRANSFORMS)
    is_steppable: bool = True
    can_skip: bool = True

    def __post_init__(self) -> None:
        """Refuse a budget of nothing."""
        if self.trials < 1:
            raise ValueError(f"trials is {self.trials}; it must be at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes is {self.minutes}; it must be above 0")
        for name in ("cells", "windows"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; it must name at least one")


def open_study(folder: Path, *, asked: str) -> optuna.Study:
    """The study kept in `folder`, or a new one. Raises OptionError if it was begun with other options (`asked`)."""
    optuna.logging.set_verbosity(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / JOURNAL))),
        study_name=NAME,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_PERCENT),
    )
    before = study.user_attrs.get("asked", asked)
    if before != asked:
        raise OptionError(f"{folder} holds a search begun with {before}; this one is {asked}: choose another folder")
    if "asked" not in study.user_attrs:
        study.set_user_attr("asked", asked)
    return study


def judged(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end or were ended early; not those that a kill or an interrupt cut off."""
    return [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end, best first."""
    found = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    return sorted(found, key=lambda trial: (trial.value, trial.number))


def run_trials(
    study: optuna.Study,
    options: SearchOptions,
    make_request: MakeRequest,
    dataset: Dataset,
    after_trial: Callable[[FrozenTrial], None],
) -> None:
    """Spend the budget. A trial's value is the RMSE on the validation part, in raw units.

    What a trial tries follows from the seed and the trials judged before it, so a search that is continued tries what
    it would have tried if it had never stopped.
    """
    begun = time.monotonic()
    while len(judged(study)) < options.trials:
        if options.minutes is not None and time.monotonic() - begun >= 60 * options.minutes:
            return
        sequence = np.random.SeedSequence((options.seed, len(judged(study))))
        # Trials that were cut off are still "running" in the journal; the sampler shall not steer clear of them.
        study.sampler = optuna.samplers.TPESampler(seed=int(sequence.generate_state(1)[0]), constant_liar=False)
        study.optimize(lambda trial: _validation_rmse(trial, options, make_request, dataset), n_trials=1)
        after_trial(study.trials[-1])


def _validation_rmse(trial: optuna.Trial, options: SearchOptions, make_request: MakeRequest, dataset: Dataset) -> float:
    words = suggest(
        trial,
        cells=options.cells,
        windows=options.windows,
        transforms=options.transforms,
        is_steppable=options.is_steppable,
        can_skip=options.can_skip,
    )
    trial.set_user_attr("options", words)
    try:
        return _fitted_rmse(trial, make_request(words), dataset)
    except (DataError, FitError, OptionError) as error:
        # A choice that this series does not bear is a bad one, not the end of the search.
        trial.set_user_attr("error", str(error))
        raise optuna.TrialPruned from error


def _fitted_rmse(trial: optuna.Trial, request: FitRequest, dataset: Dataset) -> float:
    torch.set_num_threads(request.fit.threads)
    config, parts = prepare(request, dataset, Console(quiet=True))
    model = new_model(config.model, parts.fit, seed=config.seed)
    check_resolution(model, parts.fit, config.features)
    fit = Fit(model.to(request.fit.device, request.fit.dtype), parts, config.fit, seed=config.seed)
    best = float("inf")
    while not fit.is_finished:
        best = min(best, fit.run_epoch().validation_rmse)
        # By the share of epochs done: trials have different numbers of them.
        percent = 100 * len(fit.history) // config.fit.epochs
        trial.report(best, percent)
        if trial.should_prune():
            raise optuna.TrialPruned
    assert fit.best is not None
    trial.set_user_attr("epochs", len(fit.history))
    # Of the weights that would be kept, not the luckiest epoch's.
    return fit.best.validation_rmse
