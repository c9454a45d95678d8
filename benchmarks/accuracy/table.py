"""Rows of the comparison, and the page they make."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.ours import Choice
from benchmarks.accuracy.series import Series
from training.baselines.fitted import LONG_ORDER


@dataclass(frozen=True, kw_only=True)
class Score:
    """One fit on the test part, in raw units; `coverage` and `width` of its 90 % intervals, where it gives any."""

    rmse: float
    mae: float
    mase: float
    coverage: float | None = None
    width: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to predict, by its fits from different seeds; `is_chosen` marks ours that validation prefers."""

    name: str
    scores: Sequence[Score]
    is_ours: bool = False
    is_chosen: bool = False

    def mean(self, field: str) -> float | None:
        """Over the seeds; None where the row has none."""
        values = [getattr(score, field) for score in self.scores]
        return None if None in values else statistics.mean(values)

    @property
    def rmse(self) -> float:
        """The mean over the seeds."""
        return statistics.mean(score.rmse for score in self.scores)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the RMSE over the seeds."""
        return statistics.stdev(score.rmse for score in self.scores) if len(self.scores) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All rows of one series and window."""

    series: Series
    window: int
    choice: Choice
    rows: Sequence[Row]

    @property
    def ours(self) -> Row:
        """The row that validation chose."""
        return next(row for row in self.rows if row.is_chosen)

    @property
    def best_other(self) -> Row:
        """The smallest mean RMSE among last value, AR of the same window and the libraries."""
        longer = [f"AR({LONG_ORDER})"] if self.window != LONG_ORDER else []
        return min((row for row in self.rows if not row.is_ours and row.name not in longer), key=lambda row: row.rmse)


def score_of(predictions: NDArray[np.float64], series: Series) -> Score:
    """How far the predictions of the test part are off."""
    errors = predictions - series.tested
    mae = float(np.abs(errors).mean())
    return Score(rmse=float(np.sqrt(np.mean(errors**2))), mae=mae, mase=mae / series.naive_error)


def tolerance(num_test: int) -> float:
    """How far the coverage of 90 % intervals may be off: 2 points, or two standard errors where that is more."""
    return max(0.02, 2 * math.sqrt(0.09 / num_test))


def contest_lines(contest: Contest) -> Iterable[str]:
    """The table of a contest."""
    series = contest.series
    choice = contest.choice
    errors = ", ".join(f"{name} {error:.3f}" for name, error in choice.errors.items())
    coverages = "; ".join(
        f"{name} {', '.join(f'{100 * coverage:.1f}' for coverage in found)}" for name, found in choice.coverages.items()
    )
    yield f"### {series.name}, window {contest.window}"
    yield ""
    yield (
        f"{series.num_fit} values to fit on, {series.num_validation} to validate, {series.num_test} to test. "
        f"Chosen on folds in front of the test: inputs {choice.inputs.name} (mean log RMSE / last value's: {errors}), "
        f"intervals {choice.intervals} (held, %: {coverages})."
    )
    yield ""
    yield "| | fits | RMSE | ± | MAE | MASE | 90 % interval holds | mean width |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in contest.rows:
        name = f"**{row.name}**" if row.is_chosen else row.name
        cells = [
            name,
            str(len(row.scores)),
            _number(row.rmse),
            _number(row.spread),
            _number(row.mean("mae")),
            _number(row.mean("mase")),
        ]
        coverage = row.mean("coverage")
        cells += ["–" if coverage is None else f"{coverage:.1%}", _number(row.mean("width"))]
        yield f"| {' | '.join(cells)} |"
    yield ""


def verdict_lines(contests: Sequence[Contest], limits: dict[tuple[str, int], float]) -> Iterable[str]:
    """Ours, as chosen by validation, against what was asked of it."""
    yield "| series, window | ours | best of the others | ours / best | coverage, allowed | width ours / AR |"
    yield "|---|---|---|---|---|---|"
    for contest in contests:
        ours, best = contest.ours, contest.best_other
        limit = limits.get((contest.series.name, contest.window))
        asked = "" if limit is None else f" (limit {limit:g})"
        coverage, width = ours.mean("coverage"), ours.mean("width")
        regression = next(row for row in contest.rows if row.name == f"AR({contest.window})")
        own = regression.mean("width")
        allowed = tolerance(contest.series.num_test)
        yield (
            f"| {contest.series.name}, {contest.window} | {ours.name} {_number(ours.rmse)}{asked} | "
            f"{best.name} {_number(best.rmse)} | {ours.rmse / best.rmse:.3f} | "
            + ("– | " if coverage is None else f"{coverage:.1%}, 90 ± {100 * allowed:.1f} % | ")
            + ("– |" if width is None or own is None else f"{width / own:.3f} |")
        )
    yield ""


def window_lines(contests: Sequence[Contest], limits: dict[tuple[str, int], float]) -> Iterable[str]:
    """Where no window is asked for: ours with the one that the folds prefer, the others with whichever suits them."""
    by_series: dict[str, list[Contest]] = {}
    for contest in contests:
        if (contest.series.name, contest.window) not in limits:
            by_series.setdefault(contest.series.name, []).append(contest)
    yield "| series | window, ours | best of the others at any window, chosen on the test part | ours / best |"
    yield "|---|---|---|---|"
    for name, found in by_series.items():
        preferred = min(found, key=lambda contest: contest.choice.error)
        best = min(found, key=lambda contest: contest.best_other.rmse)
        yield (
            f"| {name} | {preferred.window}, {preferred.ours.name} {_number(preferred.ours.rmse)} | "
            f"{best.best_other.name} {_number(best.best_other.rmse)}, window {best.window} | "
            f"{preferred.ours.rmse / best.best_other.rmse:.3f} |"
        )
    yield ""


def _number(value: float | None) -> str:
    """Four digits."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
