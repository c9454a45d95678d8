"""How far off a model has been lately: the running mean of its own errors, one value ahead, within what it has seen.

    e_t = |f_(t-1) - y_t|                                 f: the forecast, y: where it should have been
    s_t = decay · s_(t-1) + (1 - decay) · e_t             s_0 = usual,  decay = (span - 1) / (span + 1)

An exponentially weighted mean over a span of a quarter of the window, at least 8 values or all of a shorter one, that
begins at the usual error, so a window gives the same number as its values one by one. In a window's first steps a model
has seen little and errs more; at its end they count for next to nothing. It is of the first horizon, whatever the
others are. Intervals that reach a multiple of it widen where the series has turned hard to predict and narrow where it
is quiet: normalized conformal prediction, its scores divided by a measure of difficulty (Papadopoulos et al. 2002; Lei
et al. 2018, section 5.2), here the model's own recent errors.

Shapes: B batch, T window.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# A mean over fewer values says little.
SHORTEST_SPAN = 8


class RecentErrorState(NamedTuple):
    """The `forecast` of the value to come, how far s is above the usual (`excess`), and whether there is a forecast.

    All [B, 1]; zeros mean that nothing was seen, `has_forecast` is 1 from the first value on.
    """

    forecast: Tensor
    excess: Tensor
    has_forecast: Tensor


def decay_of(window: int) -> float:
    """The share of an error's weight that is left one value later, in a window of so many values."""
    span = max(window // 4, min(window, SHORTEST_SPAN))
    return (span - 1) / (span + 1)


class RecentError(nn.Module):
    """The running mean; `usual` [1] is the mean error on the validation part, in the transform's units."""

    usual: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.decay = decay_of(window)
        self.start = self.decay ** (window - 1)
        self._weights = (1 - self.decay) * self.decay ** np.arange(window - 2, -1, -1, dtype=np.float64)
        self.register_buffer("usual", torch.ones(1))

    @property
    def weights(self) -> Tensor:
        """What each error of a window counts for, the oldest first, [T - 1]; rounded once, to the model's precision."""
        return torch.from_numpy(self._weights).to(self.usual)

    def forward(self, forecast_BS: Tensor, actual_BS: Tensor) -> Tensor:
        """The mean [B, 1] after a window, from the forecasts of all its values but the first, and these values."""
        errors_BS = (forecast_BS - actual_BS).abs()
        return self.start * self.usual + (errors_BS * self.weights).sum(dim=1, keepdim=True)

    def initial_state(self, like_B1: Tensor) -> RecentErrorState:
        """Nothing seen: zeros."""
        zeros = torch.zeros_like(like_B1)
        return RecentErrorState(forecast=zeros, excess=zeros, has_forecast=zeros)

    def step(self, actual_B1: Tensor, state: RecentErrorState) -> Tensor:
        """How far the mean is above the usual after the value that came, [B, 1]."""
        error_B1 = (state.forecast - actual_B1).abs()
        return self.decay * state.excess + (1 - self.decay) * state.has_forecast * (error_B1 - self.usual)
