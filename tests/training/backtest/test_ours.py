"""Feeding predictions back, beside a loop that does it one window at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.training.models import random_model
from training.backtest.ours import Ours
from training.baselines.origins import up_to
from training.data import WindowSet
from training.data.rows import MemoryRows

T, R = 4, 60


@torch.no_grad()
def one_at_a_time(options: dict[str, Any], windows: WindowSet) -> np.ndarray[Any, Any]:
    """By the definition: the last T values with earlier predictions appended, K at a time."""
    model = random_model(**options)
    told = []
    for row in windows.rows:
        values = torch.tensor(windows.values[row - T : row + windows.horizon], dtype=torch.float32)
        times = torch.tensor(windows.store.read(int(row) - T, int(row) + windows.horizon).time_seconds)
        series = torch.tensor([[0 if row < R // 2 else 1]])
        predicted: list[float] = []
        while len(predicted) < windows.horizon:
            start = len(predicted)
            said = model(values[None, start : start + T], times[None, start : start + T], series)[0].tolist()
            for value in said[: windows.horizon - start]:
                values[T + len(predicted), 0] = value
                predicted.append(value)
        told.append(predicted)
    return np.array(told)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"horizon": 3},
        {"horizon": 3, "num_features": 3},
        {"calendar": ("day",), "transform": "standardize"},
        {"scaling": "window", "transform": "last-value", "horizon": 2},
        {"scaling": "series", "num_series": 2, "num_features": 2, "calendar": ("day", "week")},
    ],
)
@pytest.mark.parametrize("horizon", [1, 4, 7])
def test_it_says_what_a_loop_over_windows_says(options: dict[str, Any], horizon: int) -> None:
    values = 10 + np.random.default_rng(0).standard_normal((R, options.get("num_features", 1))).cumsum(axis=0)
    whole = WindowSet(
        values=MemoryRows(values, np.arange(R) * 5000),
        rows=np.concatenate((np.arange(T, 27), np.arange(30 + T, 57))),
        window=T,
        horizon=options.get("horizon", 1),
        series_starts=np.array([0, R // 2, R]),
        series_numbers=np.array([0, 1]),
    )
    windows = up_to(whole, horizon)
    said = Ours(random_model(**options)).predict(windows)
    assert said.next.shape == (len(windows), horizon)
    np.testing.assert_allclose(said.next, one_at_a_time(options, windows), rtol=1e-5, atol=1e-5)


def test_intervals_reach_as_far_as_the_model_looks_directly() -> None:
    model = random_model(horizon=3, intervals="quantile", levels=(0.5, 0.9))
    windows = WindowSet(values=np.arange(20.0)[:, None], rows=np.arange(T, 12), window=T, horizon=3)
    for horizon in (2, 3, 6):
        said = Ours(model).predict(up_to(windows, horizon))
        assert said.lower is not None
        assert said.lower.shape == (len(windows) - max(0, horizon - 3), min(3, horizon), 2)
        assert np.isfinite(said.next).all()
