"""The built-in examples: runs of integers, small enough to check in one's head."""

from collections.abc import Iterable

import numpy as np

from training.data.provenance import Provenance
from training.data.series import Dataset, Series

RUN_LENGTH = 100
COUNTING_STARTS = range(0, 50, 5)
STEPS = range(-3, 4)
STEP_STARTS = (-50, 0, 50)


def _runs(starts_and_steps: Iterable[tuple[int, int]]) -> Dataset:
    runs = tuple(
        Series(
            values=(start + step * np.arange(RUN_LENGTH, dtype=np.float64))[:, None],
            targetable=np.ones(RUN_LENGTH, dtype=np.bool_),
        )
        for start, step in starts_and_steps
    )
    provenance = Provenance(num_series=len(runs), num_rows=len(runs) * RUN_LENGTH)
    return Dataset(features=("value",), series=runs, provenance=provenance)


def counting() -> Dataset:
    """Runs of consecutive integers: after 45, 46, 47, 48, 49 comes 50."""
    return _runs((start, 1) for start in COUNTING_STARTS)


def counting_steps() -> Dataset:
    """Runs with a constant integer step from -3 to 3: after 9, 8, 7, 6, 5 comes 4."""
    return _runs((start, step) for step in STEPS for start in STEP_STARTS)


BUILT_IN = {"counting": counting, "counting-steps": counting_steps}
