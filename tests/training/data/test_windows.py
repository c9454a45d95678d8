"""The split and the windows: order in time, and nothing of what comes later."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.build import new_model
from training.data import Dataset, Provenance, Series, SplitOptions, split_windows
from training.errors import DataError
from training.model import ModelConfig
from training.transform import TRANSFORMS

T = 4


def dataset(*runs: NDArray[np.float64], targetable: NDArray[np.bool_] | None = None) -> Dataset:
    series = tuple(
        Series(
            values=run[:, None] if run.ndim == 1 else run,
            targetable=np.ones(len(run), dtype=np.bool_) if targetable is None else targetable,
        )
        for run in runs
    )
    num_rows = sum(map(len, runs))
    return Dataset(features=("x",), series=series, provenance=Provenance(num_series=len(runs), num_rows=num_rows))


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        (SplitOptions(), (70, 80, 100)),
        (SplitOptions(validation=0.25, test=0.25), (50, 75, 100)),
        (SplitOptions(validation=6, test=43), (51, 57, 100)),
        (SplitOptions(validation=0.1, test=30), (60, 70, 100)),
    ],
)
def test_the_split_is_in_order_of_time(options: SplitOptions, stops: tuple[int, int, int]) -> None:
    bounds = options.bounds(100)
    assert tuple(part.stop for part in bounds) == stops
    assert [row for part in bounds for row in part] == list(range(100))


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, float("nan")])
def test_a_part_is_a_share_or_a_count(value: float) -> None:
    with pytest.raises(ValueError, match="it must be a share between 0 and 1 or a whole number of rows"):
        SplitOptions(test=value)


def test_parts_that_leave_nothing_to_fit_on_are_refused() -> None:
    with pytest.raises(DataError, match="100 rows, of which validation takes 60 and test 40; at least 1 must be left"):
        SplitOptions(validation=60, test=40).bounds(100)


def test_every_value_but_the_first_t_is_a_target_once() -> None:
    parts = split_windows(dataset(np.arange(100.0)), SplitOptions(), T)
    targets = [part.targets()[:, 0].tolist() for part in parts]
    assert targets == [list(range(T, 70)), list(range(70, 80)), list(range(80, 100))]
    for part in parts:
        expected = part.targets() - np.arange(T, 0, -1)
        np.testing.assert_array_equal(part.windows()[:, :, 0], expected)


def test_windows_never_cross_from_one_series_to_the_next() -> None:
    parts = split_windows(dataset(np.arange(50.0), np.arange(1000.0, 1050.0)), SplitOptions(), T)
    for part in parts:
        steps = np.diff(np.concatenate((part.windows()[:, :, 0], part.targets()), axis=1), axis=1)
        assert (steps == 1).all()
    assert len(parts.fit) == 2 * (35 - T)


def test_a_row_that_may_not_be_a_target_is_still_context() -> None:
    targetable = np.ones(100, dtype=np.bool_)
    targetable[[20, 90]] = False
    parts = split_windows(dataset(np.arange(100.0), targetable=targetable), SplitOptions(), T)
    assert 20 not in parts.fit.targets()
    assert 90 not in parts.test.targets()
    assert 20 in parts.fit.windows()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_scales_know_nothing_of_what_comes_after_the_part_to_fit_on(transform: str) -> None:
    values = np.random.default_rng(0).normal(size=100)
    changed = values.copy()
    changed[70:] = 1e6
    config = ModelConfig(cell="rnn", window=T, num_features=1, hidden_size=2, num_layers=1, transform=transform)
    one, other = (
        new_model(config, split_windows(dataset(series), SplitOptions(), T).fit, seed=0).state_dict()
        for series in (values, changed)
    )
    assert all((one[name] == other[name]).all() for name in one)


def test_a_limit_spreads_the_chosen_windows_evenly() -> None:
    parts = split_windows(dataset(np.arange(100.0)), SplitOptions(), T)
    assert parts.test.targets(limit=3).tolist() == [[80], [90], [99]]
    assert parts.test.windows(limit=3).shape == (3, T, 1)
    assert len(parts.test.windows(limit=1000)) == 20


def test_a_constant_series_is_refused() -> None:
    with pytest.raises(DataError, match="column 'x' is 7 in all 70 rows to fit on; nothing to learn"):
        split_windows(dataset(np.full(100, 7.0)), SplitOptions(), T)


def test_constant_differences_are_something_to_learn() -> None:
    assert len(split_windows(dataset(np.arange(100.0)), SplitOptions(), T).fit)


@pytest.mark.parametrize("num_rows", [1, 4, 6])
def test_a_series_that_is_too_short_is_refused(num_rows: int) -> None:
    with pytest.raises(DataError, match=f"no window of {T} rows .* has {num_rows} rows"):
        split_windows(dataset(np.arange(float(num_rows))), SplitOptions(), T)
