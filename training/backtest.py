"""How good the predictions are on rows the fit never saw, beside the simplest ways to predict them.

Rolling origin, one step ahead, parameters fixed: every target of the test part is predicted from the T measured
rows in front of it, by a model that is not fitted again on the way.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.baselines import Autoregression, last_value
from training.data import WindowSet
from training.fit import predict
from training.model import RecurrentModel


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root mean square and mean absolute error of one way to predict, in the target's units."""

    name: str
    rmse: float
    mae: float


class Protocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured: the target, how many of its values, and the baseline that was fitted beside the model."""

    method: str = "rolling origin, one step ahead, parameters fixed"
    target: str
    source: str
    window: int
    horizon: int = 1
    num_targets: int
    autoregression: Autoregression


class Backtest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `backtest.json`; ours is the first row.

    `skill_vs_last_value` is 1 - RMSE / RMSE of the last value: 0 is as good, 1 is perfect. None where the last
    value is always right.
    """

    protocol: Protocol
    rows: list[Row]
    skill_vs_last_value: float | None


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What was predicted, by name, and what came, each [M] in raw units."""

    targets: NDArray[np.float64]
    predictions: dict[str, NDArray[np.float64]]


def backtest(
    model: RecurrentModel, test: WindowSet, autoregression: Autoregression, *, target: str, source: str
) -> tuple[Backtest, Predictions]:
    """Predict every target of `test` in three ways and measure them."""
    targets = test.targets()[:, 0]
    predictions = {
        model.config.cell: predict(model, test).next[:, 0],
        "last value": last_value(test),
        f"AR({test.window})": autoregression.predict(test),
    }
    rows = [_row(name, predicted - targets) for name, predicted in predictions.items()]
    protocol = Protocol(
        target=target,
        source=source,
        window=test.window,
        num_targets=len(test),
        autoregression=autoregression,
    )
    skill = 1 - rows[0].rmse / rows[1].rmse if rows[1].rmse > 0 else None
    return (
        Backtest(protocol=protocol, rows=rows, skill_vs_last_value=skill),
        Predictions(targets=targets, predictions=predictions),
    )


def _row(name: str, errors_M: NDArray[np.float64]) -> Row:
    return Row(name=name, rmse=float(np.sqrt(np.mean(errors_M**2))), mae=float(np.mean(np.abs(errors_M))))
