"""What a search found: search.json, and a picture to see whether it is worth going on."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

import msgspec
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState

SHOWN_PARAMETERS = ("transform", "cell", "hidden", "learning-rate")


class TrialRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trial: its options, how it ended, and its RMSE on the validation part (of a pruned one, where it stood)."""

    number: int
    state: str
    validation_rmse: float | None
    options: list[str]


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `search.json`; `command` fits the chosen trial, `best` is its number."""

    target: str
    best: int
    validation_rmse: float
    command: str
    trials: list[TrialRow]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end, best first."""
    found = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    return sorted(found, key=lambda trial: (trial.value, trial.number))


def report_of(study: optuna.Study, *, target: str, base: Sequence[str]) -> SearchReport:
    """All trials, and the command for the best. The study must have a trial that came to its end."""
    best = completed(study)[0]
    assert best.value is not None
    words = ["python", "-m", "training", "fit", *base, *best.user_attrs["options"], "--out", "runs/NAME"]
    return SearchReport(
        target=target,
        best=best.number,
        validation_rmse=best.value,
        command=shlex.join(words),
        trials=[
            TrialRow(
                number=trial.number,
                state=trial.state.name.lower(),
                validation_rmse=_value(trial),
                options=trial.user_attrs.get("options", []),
            )
            for trial in study.trials
            if trial.state.is_finished()
        ],
    )


def _value(trial: FrozenTrial) -> float | None:
    value = trial.value
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return value if value is not None and math.isfinite(value) else None


def search_picture(study: optuna.Study, *, target: str) -> Figure:
    """The RMSE of every trial and the best so far; beside it, by what the main choices were."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    above, below = rows
    ended = completed(study)
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED and _value(trial) is not None]
    axes = above.subplots()
    ordered = sorted(ended, key=lambda trial: trial.number)
    values = [float(trial.value or 0) for trial in ordered]
    numbers = [trial.number for trial in ordered]
    best_so_far = [min(values[: k + 1]) for k in range(len(values))]
    axes.step(numbers, best_so_far, where="post", color="tab:orange", label="best so far")
    axes.plot(numbers, values, "o", color="tab:blue", label="trial")
    axes.plot([t.number for t in pruned], [_value(t) for t in pruned], "x", color="0.6", label="ended early")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation RMSE, units of {target}")
    axes.set_title(f"{len(ended)} trials to their end, {len(pruned)} ended early; best {min(values):.5g}")
    axes.legend()
    for place, name in zip(below.subplots(1, len(SHOWN_PARAMETERS), sharey=True), SHOWN_PARAMETERS, strict=True):
        _by_choice(place, name, ordered)
    below.axes[0].set_ylabel(f"validation RMSE,\nunits of {target}")
    return figure


def _by_choice(axes: Any, name: str, trials: Sequence[FrozenTrial]) -> None:
    """The trials' RMSE by one choice."""
    given = [trial.params[name] for trial in trials]
    values = [trial.value for trial in trials]
    if all(isinstance(choice, float) for choice in given):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        places = given
    else:
        choices = sorted(set(given))
        places = [choices.index(choice) for choice in given]
        axes.set_xticks(
            range(len(choices)), [str(choice).replace("-and-", "\nand-") for choice in choices], rotation=20
        )
        axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.plot(places, values, "o", color="tab:blue", alpha=0.6)
    axes.set_yscale("log")
    axes.set_xlabel(name)
