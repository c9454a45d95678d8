"""Baselines and test parts that can be checked by hand."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.baselines import Autoregression, Baselines, Season
from training.data import WindowSet


def baselines(**changes: Any) -> Baselines:
    """No season, no intervals, a straight AR(2), and a last value that errs by 2 on the part to fit on."""
    defaults: dict[str, Any] = {
        "naive_error": 2.0,
        "season": Season(rows=None, found_by="asked for"),
        "autoregressions": (Autoregression(intercept=0.5, coefficients=(0.0, 1.0)),),
        "levels": (),
        "margins": {},
        "left_out": (),
    }
    return Baselines(**defaults | changes)


def windows_of(values: Any, rows: Any, *, window: int = 2, horizon: int = 1) -> WindowSet:
    """One series of one feature."""
    values_R1: NDArray[np.float64] = np.asarray(values, dtype=np.float64)[:, None]
    return WindowSet(values=values_R1, rows=np.asarray(list(rows)), window=window, horizon=horizon)
