"""All that is fitted beside a model, kept in its report: a backtest is repeated without the data it came from.

Shapes: M windows, K horizons, L interval levels.
"""

import msgspec
import numpy as np

from training.baselines.autoregression import Autoregression, fit_autoregression
from training.baselines.forecaster import Forecaster, WithMargins
from training.baselines.naive import LastValue, SeasonalNaive, target_rows
from training.baselines.origins import blocks, reaching, sampled, up_to
from training.baselines.season import Season, find_season
from training.conformal import CALIBRATION_WINDOWS, margins
from training.data import Parts, WindowSet
from training.errors import DataError

# The order of the autoregression that stands beside every model, whatever its window.
LONG_ORDER = 48
# The error of the last value is taken of at most so many windows, spread evenly.
SCALE_WINDOWS = 2**20

Margins = tuple[tuple[float, ...], ...]


class LeftOut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forecaster that is not among the rows, and why."""

    name: str
    reason: str


class Baselines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was taken of the parts to fit and to validate on.

    `naive_error` is the mean absolute error of the last value, one step ahead, on the part to fit on: what MASE
    divides by. `margins` [K][L] are half the width of each forecaster's intervals, in raw units, by split-conformal
    calibration on the validation part.
    """

    naive_error: float
    season: Season
    autoregressions: tuple[Autoregression, ...]
    levels: tuple[float, ...]
    margins: dict[str, Margins]
    left_out: tuple[LeftOut, ...]

    def forecasters(self) -> list[Forecaster]:
        """Those there are, with their intervals."""
        return [
            WithMargins(forecaster, np.array(self.margins[forecaster.name]))
            if forecaster.name in self.margins
            else forecaster
            for forecaster in _bare(self.season, self.autoregressions)
        ]


def fit_baselines(parts: Parts, *, levels: tuple[float, ...] = (), season: int | None = None) -> Baselines:
    """Fit every baseline: nothing of the test part is looked at. `season` rows, or None to look for one."""
    left_out = []
    found = find_season(parts.fit, season)
    if found.rows is None:
        left_out.append(LeftOut(name="seasonal naive", reason=found.found_by))
    autoregressions = []
    for order in sorted({parts.fit.window, LONG_ORDER}, key=[parts.fit.window, LONG_ORDER].index):
        fitted = fit_autoregression(parts.fit, order)
        if fitted is None:
            reason = f"the fit part has too few values with {order} rows in front of them"
            left_out.append(LeftOut(name=f"AR({order})", reason=reason))
        else:
            autoregressions.append(fitted)
    return Baselines(
        naive_error=_naive_error(parts.fit),
        season=found,
        autoregressions=tuple(autoregressions),
        levels=levels,
        margins=_margins(_bare(found, tuple(autoregressions)), parts.validation, levels),
        left_out=tuple(left_out),
    )


def _bare(season: Season, autoregressions: tuple[Autoregression, ...]) -> list[Forecaster]:
    seasonal = [] if season.rows is None else [SeasonalNaive(season.rows)]
    return [LastValue(), *seasonal, *autoregressions]


def _naive_error(fit: WindowSet) -> float:
    sample = sampled(up_to(fit, 1), SCALE_WINDOWS)
    total = sum(np.abs(np.diff(target_rows(block, -1, 2))).sum() for block in blocks(sample, 2))
    return float(total) / len(sample)


def _margins(forecasters: list[Forecaster], validation: WindowSet, levels: tuple[float, ...]) -> dict[str, Margins]:
    """By name; a forecaster with too few validation values within its reach has none."""
    found: dict[str, Margins] = {}
    for forecaster in forecasters if levels else []:
        windows = sampled(reaching(validation, forecaster.reach), CALIBRATION_WINDOWS)
        scores = [
            np.abs(forecaster.predict(block).next - block.targets())[..., None]
            for block in blocks(windows, forecaster.reach + windows.horizon)
        ]
        try:
            margins_KL = margins(np.concatenate(scores or [np.empty((0, windows.horizon, 1))]), levels)
        except DataError:
            continue
        if np.isfinite(margins_KL).all():
            found[forecaster.name] = tuple(map(tuple, margins_KL.tolist()))
    return found
