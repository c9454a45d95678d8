"""What a search found: search.json, and a picture to see whether it is worth going on."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

import msgspec
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter
from optuna.trial import FrozenTrial, TrialState

from training.search.space import LEARNING_RATES
from training.search.study import completed, judged

SHOWN_PARAMETERS = ("transform", "cell", "window", "hidden", "learning-rate")
# The largest value over the smallest from which an axis is logarithmic.
WIDE = 5
LEARNING_RATE_TICKS = (0.001, 0.003, 0.01, 0.03)


class TrialRow(msgspec.Struct, frozen=True, kw_only=True):
    """One trial: its options, how it ended, and its RMSE on the validation part (of a pruned one, where it stood).

    `error` says why a choice cannot be fitted to the series.
    """

    number: int
    state: str
    validation_rmse: float | None
    error: str | None
    options: list[str]


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `search.json`; `command` fits the chosen trial, `best` is its number."""

    target: str
    best: int
    validation_rmse: float
    command: str
    trials: list[TrialRow]


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
                validation_rmse=rmse_of(trial),
                error=trial.user_attrs.get("error"),
                options=trial.user_attrs["options"],
            )
            for trial in judged(study)
        ],
    )


def rmse_of(trial: FrozenTrial) -> float | None:
    """The RMSE on the validation part; of a trial that was ended early, the best it had come to."""
    value = trial.value
    if value is None and trial.intermediate_values:
        value = trial.intermediate_values[max(trial.intermediate_values)]
    return value if value is not None and math.isfinite(value) else None


def search_picture(study: optuna.Study, *, target: str) -> Figure:
    """The RMSE of every trial and the best so far; beside it, by what the main choices were."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
    above, below = rows
    ended = completed(study)
    pruned = [trial for trial in study.trials if trial.state is TrialState.PRUNED and rmse_of(trial) is not None]
    axes = above.subplots()
    ordered = sorted(ended, key=lambda trial: trial.number)
    values = [float(trial.value or 0) for trial in ordered]
    numbers = [trial.number for trial in ordered]
    best_so_far = [min(values[: k + 1]) for k in range(len(values))]
    axes.step(numbers, best_so_far, where="post", color="tab:orange", label="best so far")
    axes.plot(numbers, values, "o", color="tab:blue", label="trial")
    # A trial that was ended early may have been far off; it shall not press the others together.
    top = max(values) + ((max(values) - min(values)) or max(values))
    early = [(trial.number, rmse) for trial in pruned if (rmse := rmse_of(trial)) is not None]
    near = [place for place in early if place[1] <= top]
    axes.plot(*_transposed(near), "x", color="0.6", label="ended early")
    if len(near) < len(early):
        above_all = [(number, top) for number, rmse in early if rmse > top]
        axes.plot(*_transposed(above_all), "^", color="0.6", label="ended early, further up")
    _log_if_wide(axes, values)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation RMSE, units of {target}")
    axes.set_title(f"{len(ended)} trials to their end, {len(pruned)} ended early; best {min(values):.5g}")
    axes.legend()
    shown = [name for name in SHOWN_PARAMETERS if name != "window" or len({t.params[name] for t in ended}) > 1]
    for place, name in zip(below.subplots(1, len(shown), sharey=True), shown, strict=True):
        _by_choice(place, name, ordered)
    below.axes[0].set_ylabel(f"validation RMSE,\nunits of {target}")
    return figure


def _by_choice(axes: Any, name: str, trials: Sequence[FrozenTrial]) -> None:
    """The trials' RMSE by one choice."""
    given = [trial.params[name] for trial in trials]
    values = [float(trial.value or 0) for trial in trials]
    if name == "learning-rate":
        axes.set_xscale("log")
        axes.set_xticks(LEARNING_RATE_TICKS, [f"{rate:g}" for rate in LEARNING_RATE_TICKS])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(0.8 * LEARNING_RATES[0], LEARNING_RATES[1] / 0.8)
        places = given
    else:
        choices = sorted(set(given))
        places = [choices.index(choice) for choice in given]
        axes.set_xticks(
            range(len(choices)), [str(choice).replace("-and-", "\nand-") for choice in choices], rotation=20
        )
        axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.plot(places, values, "o", color="tab:blue", alpha=0.6)
    _log_if_wide(axes, values)
    axes.set_xlabel(name)


def _transposed(places: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [number for number, _ in places], [value for _, value in places]


def _log_if_wide(axes: Any, values: Sequence[float]) -> None:
    """Ratios are what matters between errors that differ much, unless one of them is 0."""
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
