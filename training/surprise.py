"""How far off a model has lately been: the running mean of its own errors, one value ahead, within what it has seen.

    e_t = |said_(t-1) - y_t|                              y_t: where the output should have been
    s_t = decay · s_(t-1) + (1 - decay) · e_t             s_0 = usual,  decay = (T - 1) / (T + 1)

An exponentially weighted mean over a span of T values that begins at the usual error, so a window gives the same
number as its values one by one. Intervals that reach a multiple of it widen where the series has turned hard to
predict and narrow where it is quiet: split-conformal scores divided by a measure of difficulty (Papadopoulos et al.
2002; Lei et al. 2018, section 5.2), here the model's own recent errors.

Shapes: B batch, T window.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class SurpriseState(NamedTuple):
    """What was `said` of the value to come, how far s is above the usual (`excess`), and whether anything was `told`.

    All [B, 1]; zeros mean that nothing was seen.
    """

    said: Tensor
    excess: Tensor
    told: Tensor


class Surprise(nn.Module):
    """The running mean; `usual` [1] is the mean error on the validation part, in the transform's units."""

    usual: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self.decay = (window - 1) / (window + 1)
        self.register_buffer("usual", torch.ones(1))

    @property
    def start(self) -> Tensor:
        """What the usual error counts for after a window, [1]."""
        return self.usual * self.decay ** (self.window - 1)

    @property
    def weights(self) -> Tensor:
        """What each error of a window counts for, the oldest first, [T - 1]."""
        age = torch.arange(self.window - 2, -1, -1).to(self.usual)
        return (1 - self.decay) * self.decay**age

    def forward(self, said_BS: Tensor, actual_BS: Tensor) -> Tensor:
        """The mean [B, 1] after a window, from what was said after all its values but the last, and what came."""
        return self.start + ((said_BS - actual_BS).abs() * self.weights).sum(dim=1, keepdim=True)

    def initial_state(self, like_B1: Tensor) -> SurpriseState:
        """Nothing seen: zeros."""
        zeros = torch.zeros_like(like_B1)
        return SurpriseState(said=zeros, excess=zeros, told=zeros)

    def step(self, actual_B1: Tensor, state: SurpriseState) -> Tensor:
        """How far the mean is above the usual after the value that came, [B, 1]."""
        error_B1 = (state.said - actual_B1).abs()
        return self.decay * state.excess + (1 - self.decay) * state.told * (error_B1 - self.usual)
