"""The model as a forecaster: directly as far as it sees ahead, and from its own predictions beyond.

Shapes: M windows, B windows of a block, T rows in a window, F features, K horizons given directly, N asked for,
L interval levels.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from training.baselines.origins import chosen
from training.data import WindowSet
from training.fit import EVALUATION_BATCH, Predicted, predict
from training.model import RecurrentModel


class Ours:
    """A model asked for N values ahead.

    The first K are what it says of the window. For the next K the window moves on by K rows, which are its own
    predictions; covariates and times there are those of the data. Only the first K have intervals.
    """

    def __init__(self, model: RecurrentModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The kind of cell."""
        return self.model.config.cell

    @property
    def reach(self) -> int:
        """The window."""
        return self.model.config.window

    def predict(self, windows: WindowSet) -> Predicted:
        """N values ahead of each origin."""
        direct = predict(self.model, windows)
        asked, given = windows.horizon, self.model.config.horizon
        if asked <= given:
            lower, upper = (None if end is None else end[:, :asked] for end in (direct.lower, direct.upper))
            return Predicted(direct.next[:, :asked], lower, upper)
        blocks = [
            self._fed_back(chosen(windows, np.arange(start, min(start + EVALUATION_BATCH, len(windows)))))
            for start in range(0, len(windows), EVALUATION_BATCH)
        ]
        return Predicted(np.concatenate(blocks), direct.lower, direct.upper)

    @torch.no_grad()
    def _fed_back(self, windows: WindowSet) -> NDArray[np.float64]:
        """All N values, [B, N]."""
        window, given, asked = windows.window, self.model.config.horizon, windows.horizon
        like = self.model.transform.mean
        every = np.arange(len(windows))
        values_BXF, times_BX = windows.store.gather(windows.rows_of(every) - window, window + asked, np.float32)
        # What is to be predicted is nobody's to read: a prediction missing in its place would show.
        values_BXF[:, window:, 0] = np.nan
        values = torch.from_numpy(values_BXF).to(like)
        times = torch.from_numpy(times_BX).to(like.device) if self.model.needs_time and times_BX is not None else None
        series = None
        if self.model.needs_series:
            numbers_B1 = windows.batch(every, np.float32).series
            series = None if numbers_B1 is None else torch.from_numpy(numbers_B1).to(like.device)
        for start in range(0, asked, given):
            seen = slice(start, start + window)
            next_BK = self.model(values[:, seen], None if times is None else times[:, seen], series)
            behind = values[:, start + window : start + window + given, 0]
            behind.copy_(next_BK[:, : behind.shape[1]])
        predicted_BN: NDArray[np.float64] = values[:, window:, 0].double().cpu().numpy()
        return predicted_BN
