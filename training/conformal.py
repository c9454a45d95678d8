"""Split-conformal intervals: how far predictions were off on values that nothing was fitted on.

Take the scores of n values a forecaster was not fitted on, and the ⌈(n + 1)·level⌉-th smallest of them. If the values
to come are exchangeable with those n, at least a share `level` of them scores no higher, and at most 1/(n + 1) more
where no two scores are equal. Sources: Vovk, Gammerman & Shafer 2005; Lei et al. 2018; scores relative to a learnt
distance as in Romano, Patterson & Candès 2019, multiplied instead of added. `normalized` scores are divided by an error
that was taken of the same values, which moves the share by about 1/n.

Shapes: M windows, B batch, K horizons, L interval levels.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import WindowSet
from training.data.runs import spread_evenly
from training.errors import DataError
from training.fit import EVALUATION_BATCH, Inputs, inputs_of
from training.model import LossTerms, RecurrentModel

# The rank among this many scores is off by less than a part in a thousand; more of them would only take memory.
CALIBRATION_WINDOWS = 2**18


def rank(count: int, level: float) -> int:
    """⌈(count + 1)·level⌉, the place of the score that bounds a share `level`, counted from 1.

    Raises DataError where so few scores cannot bound it.
    """
    exact = Fraction(str(level))
    place = math.ceil((count + 1) * exact)
    if place > count:
        raise DataError(
            f"levels has {level:g}, which needs {math.ceil(exact / (1 - exact))} windows of the validation part to be "
            f"calibrated on; there are {count}"
        )
    return place


def margins(scores_MKL: NDArray[np.float64], levels: tuple[float, ...]) -> NDArray[np.float64]:
    """The score of each horizon and level that bounds its share, [K, L]; scores [M, K, 1] serve all levels."""
    chosen = [rank(len(scores_MKL), level) - 1 for level in levels]
    ordered_MKL = np.partition(scores_MKL, sorted(set(chosen)), axis=0)
    each_MKL = np.broadcast_to(ordered_MKL, (*scores_MKL.shape[:2], len(levels)))
    return np.stack([each_MKL[place, :, column] for column, place in enumerate(chosen)], axis=1)


def check_levels(levels: tuple[float, ...], validation: WindowSet) -> None:
    """Raise DataError for a level that the validation part is too short for, before anything is fitted."""
    for level in levels:
        rank(len(validation), level)


@torch.no_grad()
def calibrate(model: RecurrentModel, validation: WindowSet) -> None:
    """Set the head's margins so that intervals hold their share of the validation part, horizon by horizon.

    `conformal` takes |residual| as the score, `normalized` |residual| as a multiple of how far off the model has lately
    been, `quantile` the residual as a share of the learnt distance on its own side, all in the head's units. A model
    without intervals is left as it is. Raises DataError for a level that the validation part is too short for.
    """
    if model.config.intervals == "none":
        return
    check_levels(model.config.levels, validation)
    numbers = spread_evenly(len(validation), CALIBRATION_WINDOWS)
    batches = [numbers[start : start + EVALUATION_BATCH] for start in range(0, len(numbers), EVALUATION_BATCH)]

    def each(score: Callable[[Inputs], Tensor]) -> NDArray[np.float64]:
        return np.concatenate([score(inputs_of(validation, one, model)).double().cpu().numpy() for one in batches])

    if model.recent_error is not None:
        model.recent_error.usual.fill_(float(each(lambda inputs: _residuals(model.loss_terms(*inputs))[:, 0]).mean()))
    found_KL = margins(each(lambda inputs: _scores(model, inputs)), model.config.levels)
    model.head.margin.copy_(torch.from_numpy(found_KL).expand_as(model.head.margin))


@torch.no_grad()
def take_calibration(model: RecurrentModel, calibrated: RecurrentModel) -> None:
    """Set the head's margins to those of another model of the same shape and scales."""
    if model.config.intervals == "none":
        return
    if model.recent_error is not None and calibrated.recent_error is not None:
        model.recent_error.usual.copy_(calibrated.recent_error.usual)
    model.head.margin.copy_(calibrated.head.margin)


def _residuals(terms: LossTerms) -> Tensor:
    """|residual| [B, K]."""
    return (terms.target - terms.output).abs()


def _scores(model: RecurrentModel, inputs: Inputs) -> Tensor:
    """How many distances (1 where there is no other) each prediction was off, [B, K, L] or [B, K, 1]."""
    terms = model.loss_terms(*inputs)
    if terms.spread is None:
        recent_B1 = model.recent_error_after(inputs.window, inputs.time_seconds, inputs.series)
        smallest = torch.finfo(recent_B1.dtype).tiny
        return (_residuals(terms) / recent_B1.clamp_min(smallest))[..., None]
    residual_BK1 = (terms.target - terms.output)[..., None]
    smallest = torch.finfo(terms.spread.dtype).tiny
    below_BKL, above_BKL = terms.spread.clamp_min(smallest).unbind(dim=1)
    return torch.maximum(-residual_BK1 / below_BKL, residual_BK1 / above_BKL)
