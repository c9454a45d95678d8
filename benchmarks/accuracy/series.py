"""A series and how it is cut: nyc_taxi by its usual protocol, any other as `python -m training fit` cuts by default.

Choices are made by rolling-origin validation: the values in front of the test part are cut into folds, and each fold
in turn is predicted by a model fitted on what lies in front of it.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data import DataOptions, SplitOptions, load

# Values to validate on and to test on; the rest is fitted on.
PROTOCOLS = {"nyc_taxi": (600, 4320)}

# The folds are cut from the last of the values that may be looked at; each fit keeps a part to stop early by.
NUM_FOLDS = 4
FOLDS_SHARE = 0.3
FOLD_VALIDATION_SHARE = 0.12


@dataclass(frozen=True, kw_only=True)
class Series:
    """`values` [N] in their order, cut into `num_fit`, `num_validation` and `num_test` of them."""

    name: str
    path: Path
    values: NDArray[np.float64] = field(repr=False)
    num_validation: int
    num_test: int

    @property
    def num_fit(self) -> int:
        """How many values are fitted on."""
        return len(self.values) - self.num_validation - self.num_test

    @property
    def tested(self) -> NDArray[np.float64]:
        """The values to predict."""
        return self.values[-self.num_test :]

    @property
    def naive_error(self) -> float:
        """The mean absolute difference of neighbours in the part to fit on: what MASE divides by."""
        return float(np.abs(np.diff(self.values[: self.num_fit])).mean())

    def folds(self) -> list["Series"]:
        """The values up to the end of each fold, which is their part to test on; `path` is still the whole file's."""
        known = len(self.values) - self.num_test
        stops = np.linspace(known * (1 - FOLDS_SHARE), known, NUM_FOLDS + 1).astype(int).tolist()
        return [
            Series(
                name=f"{self.name}-fold{fold}",
                path=self.path,
                values=self.values[:stop],
                num_validation=int(start * FOLD_VALIDATION_SHARE),
                num_test=stop - start,
            )
            for fold, (start, stop) in enumerate(pairwise(stops))
        ]


def read_series(path: Path) -> Series:
    """A file with one value column, as `python -m training` reads it. Raises TrainingError where it cannot."""
    with load(DataOptions(source=str(path))) as dataset:
        values = dataset.series[0].values[:, 0]
    bounds = SplitOptions().bounds(len(values))
    num_validation, num_test = PROTOCOLS.get(path.stem, (len(bounds.validation), len(bounds.test)))
    return Series(name=path.stem, path=path.resolve(), values=values, num_validation=num_validation, num_test=num_test)
