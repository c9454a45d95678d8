"""Windows that are moved and stretched at random while a model is fitted.

A cell that reads the level of a series knows what usually follows there, and is lost at a level that it never saw. Of
the windows of a batch, a share is moved to another level, and what they do there is made larger or smaller; what
follows, with them. So the model learns both: what the levels it knows mean, and what is left where they mean nothing.

Shapes: B batch, T window, F features (feature 0 is the target), K horizons.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import WindowSet
from training.data.runs import spread_evenly
from training.model import RecurrentModel
from training.scaling import SeriesScaling

# Of how far a window is moved: its standard deviation, in those of the values to fit on.
LEVEL = 2.0
# Of the logarithm of what its distances from its own mean are multiplied by: the standard deviation.
STRETCH = 0.5
# Values that say what the deviation to fit on is.
SAMPLE = 2**20


class Augmentation:
    """For one fit. What becomes of a window follows from the seed, the epoch and its place there; from no worker."""

    def __init__(self, model: RecurrentModel, windows: WindowSet, share: float, *, seed: int) -> None:
        self._model = model
        self._share = share
        self._seed = seed
        sample = windows.batch(spread_evenly(len(windows), max(1, SAMPLE // windows.window)), np.float64)
        self._deviation = float(sample.windows[:, :, 0].std())

    def draws(self, epoch: int, position: int, count: int) -> NDArray[np.float64]:
        """Of each window of a batch, [B, 2]: how far it is moved, in deviations, and its stretch's logarithm."""
        generator = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch, position)))
        is_varied_B1 = generator.random((count, 1)) < self._share
        return is_varied_B1 * generator.standard_normal((count, 2)) * (LEVEL, STRETCH)

    def vary(
        self, window_BTF: Tensor, target_BK: Tensor, series_B1: Tensor | None, drawn_B2: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        """Windows and targets with the target's values moved and stretched; other features stay."""
        told_B2 = window_BTF.new_tensor(drawn_B2)
        shift_B1, factor_B1 = told_B2[:, :1] * self._unit(window_BTF, series_B1), told_B2[:, 1:].exp()
        middle_B1 = window_BTF[:, :, 0].mean(dim=1, keepdim=True)

        def varied(values: Tensor) -> Tensor:
            return torch.addcmul(middle_B1 + shift_B1, values - middle_B1, factor_B1)

        moved_BTF = window_BTF.clone()
        moved_BTF[:, :, 0] = varied(window_BTF[:, :, 0])
        return moved_BTF, varied(target_BK)

    def _unit(self, window_BTF: Tensor, series_B1: Tensor | None) -> Tensor | float:
        """One deviation in raw units; of many series that each have their own, [B, 1]."""
        if not isinstance(self._model.scaling, SeriesScaling):
            return self._deviation
        return self._model.scaling.ruler(window_BTF, series_B1).unit[:, 0, :1]
