"""What a fit makes small: Huber loss of the predictions, pinball loss of how far the intervals reach.

Shapes: B batch, K horizons, L interval levels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model import LossTerms, RecurrentModel


def tails(levels: tuple[float, ...]) -> list[float]:
    """The share of values that each end of the intervals shall leave out."""
    return [(1 - level) / 2 for level in levels]


def pinball(distance_BKL: Tensor, residual_BK: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Pinball loss [B, K, L] of the upper ends `distance` above the prediction (Koenker & Bassett 1978).

    It is smallest where the share of residuals beyond the distance is that of the tail. For the lower ends, negate
    the residual.
    """
    over_BKL = residual_BK[..., None] - distance_BKL
    tail_L = over_BKL.new_tensor(tails(levels))
    return torch.maximum((1 - tail_L) * over_BKL, -tail_L * over_BKL)


class Loss(nn.Module):
    """The loss of a batch as a module, so that the model's call can be wrapped as a whole."""

    def __init__(self, model: RecurrentModel, *, huber_delta: float, num_steps: int = 1) -> None:
        """The loss is taken after each of the window's last `num_steps` steps."""
        super().__init__()
        self.model = model
        self.huber_delta = huber_delta
        self.num_steps = num_steps

    def forward(
        self, window_BTF: Tensor, target_BK: Tensor, time_seconds_BT: Tensor | None, series_B1: Tensor | None
    ) -> Tensor:
        """The mean loss of each window, [B], in the transform's units."""
        inputs = window_BTF, target_BK, time_seconds_BT, series_B1
        if self.num_steps == 1:
            return self.of(self.model.loss_terms(*inputs))
        return self.of(self.model.sequence_terms(*inputs, num_steps=self.num_steps))

    def of(self, terms: LossTerms) -> Tensor:
        """The mean loss of each window, [B]. Intervals are judged after the last step alone."""
        output, target = terms.output.float() if terms.output.dtype == torch.bfloat16 else terms.output, terms.target
        loss_B = functional.huber_loss(output, target, reduction="none", delta=self.huber_delta).flatten(1).mean(dim=1)
        if terms.spread is not None:
            residual_BK = (target - output).detach().reshape(len(target), -1, target.shape[-1])[:, -1]
            levels = self.model.config.levels
            ends = pinball(terms.spread[:, 0], -residual_BK, levels) + pinball(terms.spread[:, 1], residual_BK, levels)
            loss_B = loss_B + ends.mean(dim=(1, 2))
        return loss_B
