"""Our side: what is fitted, by `python -m training fit`, and how the model's inputs are chosen without the test part.

The first inputs are taken unless others have a smaller mean log(RMSE / RMSE of the last value) over the folds, by more
than its standard error; of those, the ones with the smallest. So are the intervals, by how far they are from holding
what they promise. One validation part alone would not show what a change of level does; the folds do, where a series
has any. What is judged, on the folds and on the test part, is fitted again on its validation part too (`refit`).
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.series import Series
from benchmarks.accuracy.store import Store
from training.scaling import SCALINGS
from training.transform import TRANSFORMS

KINDS = ("lstm", "gru")
CHOSEN_WITH = "lstm"
INTERVALS = ("conformal", "normalized", "quantile")
LEVEL = 0.9

# An epoch has at least so many steps, of a batch that is a power of two.
MIN_STEPS_PER_EPOCH = 20
BATCH_SIZES = (32, 256)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the cells see of a window."""

    transform: str
    scaling: str = "fit"
    skip: bool = False
    augment: float = 0.0

    @property
    def name(self) -> str:
        """As a table shows it."""
        further = (" and a linear skip" if self.skip else "") + (", augmented" if self.augment else "")
        return self.transform + (" of the scaled window" if self.scaling == "window" else "") + further

    @property
    def slug(self) -> str:
        """As a file is called."""
        further = ("-skip" if self.skip else "") + (f"-{self.augment:g}" if self.augment else "")
        return f"{self.transform}-{self.scaling}{further}"

    @property
    def knows_each_step(self) -> bool:
        """Whether a step's input is the same in every window, so that all steps can be taught."""
        return SCALINGS[self.scaling].steppable and TRANSFORMS[self.transform].steppable

    @property
    def intervals(self) -> tuple[str, ...]:
        """What can be had with them."""
        return tuple(kind for kind in INTERVALS if kind != "normalized" or self.knows_each_step)


# What was seen of a level, and what a level means where it was never seen.
_AUGMENTED = Inputs(transform="value-and-difference", augment=0.5)
_OF_THE_WINDOW = Inputs(transform="value-and-difference", scaling="window")
_BOTH = Inputs(transform="value-and-difference")
# In a short window, the first unless another is better: of the scaled window, levels and sizes that were never seen are
# none.
INPUTS = (
    _OF_THE_WINDOW,
    _BOTH,
    _AUGMENTED,
    Inputs(transform="difference"),
    Inputs(transform="difference", scaling="window"),
    Inputs(transform="last-value"),
)
# In front of those where the window is wide and an autoregression says much.
SKIPPING = tuple(replace(each, skip=True) for each in (_AUGMENTED, _BOTH, _OF_THE_WINDOW))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything of a fit that is not the data, the inputs, the kind or the seed.

    A fit has `intervals`; the folds choose them, `first_intervals` unless others are better or inputs cannot have them.
    """

    window: int
    num_steps: int
    hidden_size: int = 32
    learning_rate: float = 0.01
    average: float = 0.99
    loss_steps_share: float = 0.0
    inputs: tuple[Inputs, ...] = INPUTS
    intervals: str = "conformal"
    first_intervals: str = "conformal"

    @property
    def suffix(self) -> str:
        """What tells the fits with intervals of another kind apart."""
        return "" if self.intervals == "conformal" else f"-{self.intervals}"

    def options(self, num_windows: int, inputs: Inputs) -> dict[str, Any]:
        """As the command takes them; True is a word alone."""
        batch_size = largest_batch(num_windows)
        epochs = math.ceil(self.num_steps / math.ceil(num_windows / batch_size))
        loss_steps = 1 + round(self.window * self.loss_steps_share) if inputs.knows_each_step else 1
        return {
            "window": self.window,
            "transform": inputs.transform,
            "scaling": inputs.scaling,
            "augment": inputs.augment,
            "hidden": self.hidden_size,
            "loss-steps": loss_steps,
            "average": self.average,
            "batch-size": batch_size,
            "epochs": epochs,
            "patience": max(5, epochs // 3),
            "learning-rate": self.learning_rate,
            "intervals": self.intervals,
            "levels": LEVEL,
            "season": 0,
        } | ({"linear-skip": True} if inputs.skip else {})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the folds prefer, and their figures: `errors` by inputs, the `coverages` of each fold by intervals."""

    inputs: Inputs
    errors: dict[str, float]
    intervals: str
    coverages: dict[str, list[float]]

    @property
    def error(self) -> float:
        """The mean log(RMSE / last value's) over the folds, with the inputs chosen."""
        return self.errors[self.inputs.name]


# By window; another window takes the nearest. In a long one, every step of the later half knows enough to be taught.
RECIPES = {
    5: Recipe(window=5, num_steps=3000),
    48: Recipe(window=48, num_steps=1500, loss_steps_share=0.5, inputs=SKIPPING + INPUTS, first_intervals="normalized"),
}


def is_better(errors: NDArray[np.float64], default: NDArray[np.float64]) -> bool:
    """Whether the mean over the folds is smaller than the default's by more than its standard error, fold by fold."""
    gains = default - errors
    return bool(gains.mean() > gains.std(ddof=1) / math.sqrt(len(gains)))


def largest_batch(num_windows: int) -> int:
    """The largest power of two that leaves MIN_STEPS_PER_EPOCH steps, within BATCH_SIZES."""
    smallest, largest = BATCH_SIZES
    size = largest
    while size > smallest and num_windows / size < MIN_STEPS_PER_EPOCH:
        size //= 2
    return size


class Ours:
    """Fits through the command, each in a folder of its own; finished ones are read back."""

    def __init__(self, store: Store, folder: Path, say: Callable[[str], None]) -> None:
        self._store = store
        self._folder = folder
        self._say = say

    def report(self, series: Series, recipe: Recipe, *, kind: str, inputs: Inputs, seed: int) -> dict[str, Any]:
        """The run fitted again on its validation part too: its backtest, and the best epoch of the first."""
        options = recipe.options(series.num_fit - recipe.window, inputs)
        return self._fitted(
            f"{series.name}/{kind}-{inputs.slug}-{recipe.window}-{seed}{recipe.suffix}",
            {
                "data": str(series.path),
                "validation": series.num_validation,
                "test": series.num_test,
                "cell": kind,
                "seed": seed,
                **options,
            },
        )

    def choose(self, series: Series, recipe: Recipe) -> Choice:
        """The inputs by log(RMSE / last value's) over the folds, then the intervals by coverage."""
        ratios = {}
        for inputs in recipe.inputs:
            rows = [fold["rows"] for fold in self._folds(series, recipe, inputs)]
            naive = [{row["name"]: row["rmse"] for row in each}["last value"] for each in rows]
            ratios[inputs] = np.log([each[0]["rmse"] / last for each, last in zip(rows, naive, strict=True)])
        errors = {inputs.name: float(each.mean()) for inputs, each in ratios.items()}
        default = ratios[recipe.inputs[0]]
        better = [inputs for inputs, each in ratios.items() if is_better(each, default)]
        inputs = min(better or [recipe.inputs[0]], key=lambda each: errors[each.name])
        coverages, misses = {}, {}
        for intervals in inputs.intervals:
            folds = self._folds(series, replace(recipe, intervals=intervals), inputs)
            coverages[intervals] = [fold["rows"][0]["intervals"][0]["coverage"] for fold in folds]
            misses[intervals] = np.abs(np.array(coverages[intervals]) - LEVEL)
        first = recipe.first_intervals if recipe.first_intervals in inputs.intervals else inputs.intervals[0]
        nearer = [kind for kind, miss in misses.items() if is_better(miss, misses[first])]
        chosen = min(nearer or [first], key=lambda kind: misses[kind].mean())
        return Choice(inputs=inputs, errors=errors, intervals=chosen, coverages=coverages)

    def _folds(self, series: Series, recipe: Recipe, inputs: Inputs) -> list[dict[str, Any]]:
        """A fit for each fold, judged on the fold."""
        found = []
        for number, fold in enumerate(series.folds()):
            # A file with the values up to the fold's end: a fit on it cannot see what follows.
            path = self._folder / f"{fold.name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("value\n" + "".join(f"{value!r}\n" for value in fold.values.tolist()))
            found.append(
                self._fitted(
                    f"{series.name}/fold{number}-{inputs.slug}-{recipe.window}{recipe.suffix}",
                    {
                        "data": str(path),
                        "validation": fold.num_validation,
                        "test": fold.num_test,
                        "cell": CHOSEN_WITH,
                        "seed": 0,
                        **recipe.options(fold.num_fit - recipe.window, inputs),
                    },
                )
            )
        return found

    def _fitted(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """A run fitted again: its backtest, and the best epoch of the first."""

        def fit() -> dict[str, Any]:
            self._say(f"fit {name}")
            out, again = self._folder / name, self._folder / f"{name}-again"
            _train("fit", out, words_of(options))
            _train("refit", again, ["--run", str(out), "--data", options["data"]])
            found: dict[str, Any] = json.loads((again / "report.json").read_text())
            epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            best = min(epochs, key=lambda epoch: epoch["validation_loss"])
            return {"rows": found["rows"], "best": best, "num_epochs": len(epochs)}

        return self._store.get(name, options | {"refit": True}, fit)


def words_of(options: dict[str, Any]) -> list[str]:
    """As they stand on a command line."""
    return [
        word
        for name, value in options.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def _train(what: str, out: Path, words: list[str]) -> None:
    command = [sys.executable, "-m", "training", what, "--out", str(out), "--force", "--quiet", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
