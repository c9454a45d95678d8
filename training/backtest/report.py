"""The content of `report.json`: how good a model's predictions are, beside the simplest ways to predict.

All errors and widths are in the target's own units.
"""

import msgspec

from training.baselines import Baselines, LeftOut


class IntervalScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share of values inside the intervals of a level, and their mean width."""

    level: float
    coverage: float
    mean_width: float


class HorizonScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the values `horizon` steps ahead were predicted.

    `rmse` root mean square error, `mae` mean absolute error, `mase` mean absolute scaled error (Hyndman & Koehler
    2006): `mae` by the mean absolute error that the last value makes one step ahead on the part to fit on, so below
    1 is better than that. `skill_*` is 1 - RMSE / RMSE of the baseline: 0 is as good, 1 is perfect. None where one
    would divide by 0, or by the error of a row that is left out. `intervals` are those of the horizons that a
    forecaster gives them for.
    """

    horizon: int
    rmse: float
    mae: float
    mase: float | None
    skill_vs_last_value: float | None
    skill_vs_seasonal_naive: float | None
    intervals: tuple[IntervalScore, ...] = ()


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to predict: the scores over all horizons together, and `horizons`, each by itself."""

    name: str
    rmse: float
    mae: float
    mase: float | None
    skill_vs_last_value: float | None
    skill_vs_seasonal_naive: float | None
    intervals: tuple[IntervalScore, ...]
    horizons: tuple[HorizonScore, ...]


class SeriesScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of many series: ours beside the last value."""

    id: str
    num_origins: int
    rmse: float
    rmse_last_value: float
    skill_vs_last_value: float | None


class Protocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured.

    From each of `num_origins` places `horizon` values were predicted, `direct_horizon` of them by one look of the
    model at its window, the others by looking again at what it said. All rows are scored on the same values; of
    `num_origins_given` places those are left out that a row cannot predict from, and all but an even sample where
    there are too many. With covariates and a horizon beyond the direct one, the covariates' values ahead are taken
    as known (`covariates_known`). `num_leaks_looked_for` is the number of origins from which every row said the same
    after all values from there on had been replaced.
    """

    method: str = "rolling origin, parameters fixed"
    target: str
    source: str
    window: int
    horizon: int
    direct_horizon: int
    covariates_known: bool
    levels: tuple[float, ...]
    num_origins: int
    num_origins_given: int
    num_leaks_looked_for: int
    num_series: int


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ours is the first row. `baselines` is what a repeated backtest needs of the data that was fitted on.

    Of many series, `num_series_better` is how many ours predicts better than the last value does, and `series` the
    worst and the best of them by that skill, or all where there are few.
    """

    protocol: Protocol
    baselines: Baselines
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    num_series_better: int
    series: tuple[SeriesScore, ...] = ()
