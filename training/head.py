"""From the top layer's output to predictions and how sure they are, in the transform's units.

Shapes: B batch, H hidden size (in `h_BH`), K horizons, L interval levels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

INTERVALS = ("none", "conformal", "normalized", "quantile")


class Said(NamedTuple):
    """`point` [B, K]; `below` and `above` [B, K, L] are the distances to the ends of each interval, or None."""

    point: Tensor
    below: Tensor | None
    above: Tensor | None


class Head(nn.Module):
    """Output layers, the last of them linear.

        h = tanh(W h + b)                 depth - 1 times: more output layers (Pascanu et al. 2013)
        point = W_y h + b_y               K values ahead, directly

    An interval is told by its distances from the point. With `conformal` they are constants, `margin`, calibrated
    on the validation part. With `normalized` they are multiples of `training.recent_error`, how far off the
    model has been lately. With `quantile` the model says how far (W_d, b_d), and `margin` corrects it by a factor:

        conformal   below, above = margin
        normalized  below, above = margin · recent_error                            the product is the model's
        quantile    below, above = margin · softplus(W_d h + b_d)
    """

    margin: Tensor

    def __init__(self, hidden_size: int, *, depth: int, horizon: int, intervals: str, num_levels: int) -> None:
        super().__init__()
        self.intervals = intervals
        self.hidden = nn.ModuleList([nn.Linear(hidden_size, hidden_size) for _ in range(depth - 1)])
        self.point = nn.Linear(hidden_size, horizon)
        self.shape = (2, horizon, num_levels)
        if intervals == "quantile":
            self.distance = nn.Linear(hidden_size, 2 * horizon * num_levels)
        if intervals != "none":
            self.register_buffer("margin", torch.ones(self.shape))

    def features(self, h_BH: Tensor) -> Tensor:
        """What the linear layers read, [B, H]."""
        for layer in self.hidden:
            h_BH = torch.tanh(layer(h_BH))
        return h_BH

    def spread(self, features_BH: Tensor) -> Tensor:
        """How far the ends lie before `margin` corrects it, [B or 1, 2, K, L], below first."""
        if self.intervals != "quantile":
            return torch.ones_like(self.margin)[None]
        distance: Tensor = self.distance(features_BH)
        return functional.softplus(distance).reshape(-1, *self.shape)

    def forward(self, h_BH: Tensor) -> Said:
        """Predictions and intervals."""
        features_BH = self.features(h_BH)
        point_BK: Tensor = self.point(features_BH)
        if self.intervals == "none":
            return Said(point_BK, None, None)
        distances = (self.margin * self.spread(features_BH)).expand(len(h_BH), -1, -1, -1)
        return Said(point_BK, distances[:, 0], distances[:, 1])
