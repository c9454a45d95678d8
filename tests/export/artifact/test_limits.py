"""The limit, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.artifact.limits import HALF, Deviation, Tolerance, deviation, limit

TOLERANCE = Tolerance()
finite = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**127), max_value=2.0**127)


def test_numbers_are_the_ones_that_were_promised() -> None:
    assert TOLERANCE.relative_to_scale == 1e-5
    assert TOLERANCE.ulps == 2.0


def test_float16_has_a_row_of_its_own() -> None:
    assert HALF.relative_to_scale == 5e-3
    assert HALF.ulps == 2.0


@pytest.mark.parametrize(
    ("reference", "scale", "expected"),
    [
        (1.0, 1.0, 1e-5 + 2 * 2.0**-23),
        (-1.0, 1.0, 1e-5 + 2 * 2.0**-23),
        (0.0, 1.0, 1e-5 + 2 * 2.0**-149),
        (1.5, 10.0, 1e-4 + 2 * 2.0**-23),
        (2.0, 1.0, 1e-5 + 2 * 2.0**-22),
        (1000.0, 1e-3, 1e-8 + 2 * 2.0**-14),
        (2.0**24, 1.0, 1e-5 + 2 * 2.0),
        (1e6, 0.5, 5e-6 + 2 * 2.0**-4),
    ],
)
def test_limit_by_hand(reference: float, scale: float, expected: float) -> None:
    assert limit(np.array([reference]), scale, TOLERANCE).tolist() == pytest.approx([expected], rel=1e-12, abs=0)


@given(finite)
def test_ulp_is_the_distance_to_the_next_float32(value: float) -> None:
    away = abs(np.nextafter(np.float32(abs(value)), np.float32(np.inf)).astype(np.float64) - abs(value))
    assert limit(np.array([value]), 0.0, TOLERANCE)[0] == 2 * away


def test_limit_is_elementwise() -> None:
    both = limit(np.array([[1.0], [2.0**24]]), 1.0, TOLERANCE)
    assert both.shape == (2, 1)
    assert both[1, 0] - both[0, 0] == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999, 1.001, 3.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_share_of_limit(share: float, sign: int) -> None:
    reference = np.array([100.0, 0.25])
    served = reference.copy()
    served[1] += sign * share * limit(reference, 2.0, TOLERANCE)[1]
    found = deviation(served, reference, 2.0, TOLERANCE)
    assert found.share_of_limit == pytest.approx(share, rel=1e-9)
    assert found.abs_error == pytest.approx(share * limit(reference, 2.0, TOLERANCE)[1], rel=1e-9)
    assert found.within is (share <= 1)


@pytest.mark.parametrize(
    ("served", "reference"),
    [
        (np.nan, 1.0),
        (np.inf, 1.0),
        (-np.inf, 1.0),
        (1.0, np.nan),
        (1.0, np.inf),
        (np.inf, np.inf),
        (np.nan, np.nan),
        (3e38, 1e39),
        (1.0, 1e300),
    ],
)
def test_what_is_not_finite_is_infinitely_far(served: float, reference: float) -> None:
    found = deviation(np.array([0.0, served], np.float32), np.array([0.0, reference]), 1.0, TOLERANCE)
    assert found == Deviation(float("inf"), float("inf"))
    assert not found.within


def test_shapes_must_agree() -> None:
    """[64] against [64, 1] would broadcast to 64 × 64 comparisons, most of them of strangers."""
    with pytest.raises(ValueError, match=r"\[64\]; the reference has \[64, 1\]"):
        deviation(np.zeros(64), np.zeros((64, 1)), 1.0, TOLERANCE)


def test_nothing_deviates_not_at_all() -> None:
    assert deviation(np.zeros((0, 1)), np.zeros((0, 1)), 1.0, TOLERANCE) == Deviation(0.0, 0.0)


def test_worst_takes_each_figure_from_where_it_is_worse() -> None:
    assert Deviation(1.0, 0.25).worst(Deviation(0.5, 0.75)) == Deviation(1.0, 0.75)
