"""Split-conformal calibration of a model's intervals on values it was not fitted on (Vovk et al. 2005; Lei et al. 2018).

Shapes: M windows, K horizons, L interval levels.
"""

import math

import torch

from training.data import WindowSet
from training.errors import DataError
from training.fit import batches_of
from training.model import RecurrentModel


@torch.no_grad()
def calibrate(model: RecurrentModel, validation: WindowSet) -> None:
    """Set the head's margins so that the intervals hold their share of the validation part's values."""
    if model.config.intervals == "none":
        return
    scores = []
    for inputs in batches_of(validation, model):
        terms = model.loss_terms(*inputs)
        distance_BK = (terms.target - terms.output).abs()
        spread = torch.ones_like(model.head.margin)[None] if terms.spread is None else terms.spread
        scores.append(distance_BK[:, None, :, None] / spread.mean(dim=1, keepdim=True))
    scores_MKL = torch.cat([score.expand(-1, 1, *model.head.margin.shape[1:]) for score in scores])[:, 0]
    count = len(scores_MKL)
    ordered = scores_MKL.sort(dim=0).values
    for place, level in enumerate(model.config.levels):
        rank = math.ceil((count + 1) * level)
        if rank > count:
            raise DataError(
                f"levels has {level}, which takes {math.ceil(level / (1 - level))} validation values to calibrate; "
                f"there are {count}"
            )
        model.head.margin[:, :, place] = ordered[rank - 1, :, place]
