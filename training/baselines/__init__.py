"""What a model must beat to have learnt anything: the last value, the season before, a straight autoregression."""

from training.baselines.autoregression import Autoregression
from training.baselines.fitted import Baselines, LeftOut, fit_baselines
from training.baselines.forecaster import Forecaster
from training.baselines.naive import LastValue, SeasonalNaive
from training.baselines.season import Season, check_season

__all__ = [
    "Autoregression",
    "Baselines",
    "Forecaster",
    "LastValue",
    "LeftOut",
    "Season",
    "SeasonalNaive",
    "check_season",
    "fit_baselines",
]
