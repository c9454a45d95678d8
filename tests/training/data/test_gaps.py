import numpy as np
import pytest

from training.data.gaps import fill

NAN = np.nan


def column(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)[:, None]


@pytest.mark.parametrize(
    ("policy", "expected", "targetable"),
    [
        ("ffill", [1, 1, 1, 4, 5, 5], [1, 0, 0, 1, 1, 0]),
        # Behind the gap stands 4, which the line in the gap already points at.
        ("interpolate", [1, 2, 3, 4, 5], [1, 0, 0, 0, 1]),
    ],
)
def test_a_gap_is_filled_and_never_a_target(policy: str, expected: list[float], targetable: list[int]) -> None:
    filled = fill(column(NAN, 1, NAN, NAN, 4, 5, NAN), policy)
    assert filled.values[:, 0].tolist() == expected
    assert filled.targetable.tolist() == [bool(flag) for flag in targetable]


def test_counts_filled_values_and_says_which_rows_were_kept() -> None:
    values = np.array([[NAN, 0], [1, NAN], [2, 20], [NAN, NAN], [4, 40], [5, NAN]])
    filled = fill(values, "interpolate")
    assert filled.kept == slice(2, 5)
    assert filled.num_gaps_filled == 2
    assert filled.values.tolist() == [[2, 20], [3, 30], [4, 40]]


def test_nothing_to_fill_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(7, 2))
    for policy in ("error", "ffill", "interpolate"):
        filled = fill(values, policy)
        np.testing.assert_array_equal(filled.values, values)
        assert filled.targetable.all()
        assert filled.num_gaps_filled == 0


def test_no_complete_row_leaves_no_row() -> None:
    assert len(fill(np.array([[NAN, 1], [1, NAN]]), "ffill").values) == 0
