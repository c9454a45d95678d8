"""Rolling origin, parameters fixed: every value of the test part is predicted from the rows in front of it.

Shapes: M origins, B origins of a block, N horizons, S series, P origins of a stretch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.backtest.leak import check_leaks
from training.backtest.ours import Ours
from training.backtest.report import Protocol, Report, SeriesScore
from training.backtest.score import Score
from training.baselines import Baselines, Forecaster, LastValue, LeftOut
from training.baselines.fitted import LONG_ORDER
from training.baselines.origins import blocks, chosen, num_series_of, reaching, sampled, series_of, up_to
from training.data import WindowSet
from training.errors import DataError, FitError
from training.fit import Predicted
from training.model import RecurrentModel

# Origins that are scored at most, spread evenly: the error of a root mean square is below a part in a thousand.
MAX_ORIGINS = 2**20
# A row that cannot predict more than this share of the values is left out, that the others keep theirs.
MAX_SHARE_LOST = 0.1
# As many predictions as can still be told apart in one picture.
STRETCH_ORIGINS = 200
# Series in a report: half the worst, half the best.
MAX_SERIES = 20


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The last origins of one series, to look at: what came, [P, N], and what each row said.

    `time_seconds` [P] are the times of the first targets, None where there are none; `series_id` is empty where
    there is one series alone.
    """

    series_id: str
    targets_PN: NDArray[np.float64]
    time_seconds: NDArray[np.int64] | None
    predictions: dict[str, Predicted]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A report, and a stretch of what it is about."""

    report: Report
    stretch: Stretch


def judge(
    model: RecurrentModel,
    test: WindowSet,
    baselines: Baselines,
    *,
    target: str,
    source: str,
    horizon: int | None = None,
    series_ids: Sequence[str] = (),
    others: Sequence[Forecaster] = (),
) -> Judged:
    """Score the model, the baselines and `others` on the same values of `test`.

    `horizon` values ahead, as many as the model gives directly if left open; beyond those they are fed back.
    `series_ids` name the dataset's series in its order. Raises LeakError for a forecaster that looks ahead, DataError
    where the part is too short for the horizon.
    """
    ours = Ours(model)
    direct = model.config.horizon
    given = _ahead(test, horizon or direct)
    forecasters, left_out = _able([ours, *baselines.forecasters(), *others], given)
    scored = sampled(reaching(given, max(forecaster.reach for forecaster in forecasters)), MAX_ORIGINS)
    covariates_known = model.config.num_features > 1 and given.horizon > direct
    num_checked = check_leaks(forecasters, scored, is_target_alone=covariates_known)

    scores = _scores(forecasters, scored)
    if not scores[0].is_finite:
        raise FitError(f"{ours.name} predicts values that are not finite numbers; its weights are of no use")
    left_out += [
        LeftOut(name=score.name, reason="its predictions are not finite numbers")
        for score in scores
        if not score.is_finite
    ]
    scores = [score for score in scores if score.is_finite]
    last_value = next(score for score in scores if score.name == LastValue.name)
    seasonal_naive = next((score for score in scores if score.name.startswith("seasonal naive")), None)
    worst_and_best, num_better = _by_series(scores[0], last_value, scored, series_ids)
    report = Report(
        protocol=Protocol(
            target=target,
            source=source,
            window=test.window,
            horizon=given.horizon,
            direct_horizon=direct,
            covariates_known=covariates_known,
            levels=model.config.levels,
            num_origins=len(scored),
            num_origins_given=len(given),
            num_leaks_looked_for=num_checked,
            num_series=int((scored.windows_per_series > 0).sum()),
        ),
        baselines=baselines,
        rows=tuple(
            score.row(
                model.config.levels,
                naive_error=baselines.naive_error,
                last_value=last_value,
                seasonal_naive=seasonal_naive,
            )
            for score in scores
        ),
        left_out=(*baselines.left_out, *left_out),
        num_series_better=num_better,
        series=worst_and_best,
    )
    names = {row.name for row in report.rows}
    shown = [forecaster for forecaster in forecasters if forecaster.name in names]
    return Judged(report=report, stretch=_stretch(shown, scored, series_ids))


def _ahead(test: WindowSet, horizon: int) -> WindowSet:
    found = up_to(test, horizon)
    if not len(found):
        longest = int((test.runs.stops - test.runs.starts).max(initial=0)) + test.horizon - 1
        raise DataError(f"horizon is {horizon}; the longest stretch to test on has {longest} values without a gap")
    return found


def _able(forecasters: list[Forecaster], windows: WindowSet) -> tuple[list[Forecaster], list[LeftOut]]:
    """Those that can predict nearly all the values, and who cannot."""
    able, left_out = [], []
    for forecaster in forecasters:
        share_lost = 1 - len(reaching(windows, forecaster.reach)) / len(windows)
        if share_lost <= MAX_SHARE_LOST:
            able.append(forecaster)
        else:
            reason = f"{share_lost:.0%} of the values have fewer than {forecaster.reach} rows in front of them"
            left_out.append(LeftOut(name=forecaster.name, reason=reason))
    return able, left_out


def _scores(forecasters: list[Forecaster], windows: WindowSet) -> list[Score]:
    num_series = num_series_of(windows)
    scores = [Score(each.name, horizon=windows.horizon, num_series=num_series) for each in forecasters]
    row_length = windows.window * len(windows.largest) + LONG_ORDER + windows.horizon
    for block in blocks(windows, row_length):
        targets_BN = block.targets()
        series_B = series_of(block, block.rows)
        for forecaster, score in zip(forecasters, scores, strict=True):
            score.add(forecaster.predict(block), targets_BN, series_B)
    return scores


def _by_series(
    ours: Score, last_value: Score, windows: WindowSet, series_ids: Sequence[str]
) -> tuple[tuple[SeriesScore, ...], int]:
    """The worst and the best by skill, worst first, and how many are better than the last value."""
    count_S = windows.windows_per_series
    present = np.flatnonzero(count_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio_S = np.sqrt(ours.squares_S[present] / last_value.squares_S[present])
    num_better = int((ours.squares_S[present] < last_value.squares_S[present]).sum())
    if len(present) < 2:
        return (), num_better
    worst_first = present[np.argsort(-ratio_S, kind="stable")]
    if len(worst_first) > MAX_SERIES:
        worst_first = np.concatenate((worst_first[: MAX_SERIES // 2], worst_first[-MAX_SERIES // 2 :]))

    def score(s: int) -> SeriesScore:
        total = count_S[s] * windows.horizon
        own, naive = (float(np.sqrt(each.squares_S[s] / total)) for each in (ours, last_value))
        return SeriesScore(
            id=_name(s, series_ids),
            num_origins=int(count_S[s]),
            rmse=own,
            rmse_last_value=naive,
            skill_vs_last_value=1 - own / naive if naive > 0 else None,
        )

    return tuple(score(int(s)) for s in worst_first), num_better


def _name(s: int, series_ids: Sequence[str]) -> str:
    return series_ids[s] if series_ids else f"series {s + 1}"


def _stretch(forecasters: list[Forecaster], windows: WindowSet, series_ids: Sequence[str]) -> Stretch:
    """The last origins of the series that has the most."""
    count_S = windows.windows_per_series
    longest = int(np.argmax(count_S))
    own = np.flatnonzero(series_of(windows, windows.rows) == longest)[-STRETCH_ORIGINS:]
    last = chosen(windows, own)
    times_P1 = last.store.gather(last.rows, 1).time_seconds
    return Stretch(
        series_id=_name(longest, series_ids) if (count_S > 0).sum() > 1 else "",
        targets_PN=last.targets(),
        time_seconds=None if times_P1 is None else times_P1[:, 0],
        predictions={forecaster.name: forecaster.predict(last) for forecaster in forecasters},
    )
