"""How good the predictions are on rows the fit never saw, beside the simplest ways to predict them.

    baselines = fit_baselines(parts, levels=model.config.levels)
    judged    = judge(model, parts.test, baselines, target="passengers", source="taxi.csv")

`judged.report` is what a run keeps, baselines included, so that a later backtest needs the test rows alone.
"""

from training.backtest.judge import Judged, Stretch, judge
from training.backtest.report import Report, Row
from training.backtest.table import backtest_table
from training.baselines import Baselines, fit_baselines

__all__ = ["Baselines", "Judged", "Report", "Row", "Stretch", "backtest_table", "fit_baselines", "judge"]
