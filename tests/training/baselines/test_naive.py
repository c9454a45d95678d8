import numpy as np
import pytest

from training.baselines import LastValue, SeasonalNaive
from training.baselines.forecaster import WithMargins
from training.data import WindowSet

VALUES = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256])[:, None]


def windows(horizon: int) -> WindowSet:
    return WindowSet(values=VALUES, rows=np.array([3, 4]), window=3, horizon=horizon)


def test_the_last_value_is_the_row_in_front_of_the_origin_again_and_again() -> None:
    assert LastValue().predict(windows(3)).next.tolist() == [[4, 4, 4], [8, 8, 8]]


@pytest.mark.parametrize(
    ("horizon", "expected"), [(1, [[2], [4]]), (2, [[2, 4], [4, 8]]), (5, [[2, 4, 2, 4, 2], [4, 8, 4, 8, 4]])]
)
def test_the_season_repeats_itself(horizon: int, expected: list[list[float]]) -> None:
    seasonal = SeasonalNaive(2)
    assert seasonal.predict(windows(horizon)).next.tolist() == expected
    assert (seasonal.name, seasonal.reach) == ("seasonal naive (2)", 2)


def test_margins_lie_to_either_side_of_the_horizons_they_are_for() -> None:
    said = WithMargins(LastValue(), np.array([[1.0, 2], [3, 4]])).predict(windows(3))
    assert said.lower is not None
    assert said.upper is not None
    assert said.next.shape == (2, 3)
    assert said.lower.tolist() == [[[3, 2], [1, 0]], [[7, 6], [5, 4]]]
    assert said.upper.tolist() == [[[5, 6], [7, 8]], [[9, 10], [11, 12]]]
    fewer = WithMargins(LastValue(), np.array([[1.0], [3]])).predict(windows(1))
    assert fewer.lower is not None
    assert fewer.lower.tolist() == [[[3]], [[7]]]
