"""A model ready to be fitted: weights from a seed, scales and least squares from the windows to fit on.

Shapes: M windows, T rows in a window, F features, K horizons, S series.
"""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from training.data import WindowSet
from training.data.runs import spread_evenly
from training.errors import DataError
from training.linear_skip import LinearSkip, least_squares
from training.model import ModelConfig, RecurrentModel
from training.scaling import SeriesScaling
from training.transform import moments

# Scales are taken of at most this many numbers, spread evenly over the windows.
SCALE_SAMPLE = 2**24
# And those of one series, where each has its own, of about so many rows.
SERIES_SAMPLE = 2**14
# Least squares take at most this many numbers at a time, of at most LEAST_SQUARES_SAMPLE in all.
LEAST_SQUARES_BATCH = 2**20
LEAST_SQUARES_SAMPLE = 2**26
# float32 steps above this share of the scale would be noise that a model can see.
RESOLUTION = 0.02


def new_model(
    config: ModelConfig, windows: WindowSet, *, seed: int, scales_of: RecurrentModel | None = None
) -> RecurrentModel:
    """A model with weights drawn from `seed`, scales and what is linear taken from the windows to fit on.

    The scales may be those of another model instead: what was calibrated in its units holds on in this one's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RecurrentModel(config)
    if scales_of is None:
        _take_scales(model, windows)
    else:
        model.scaling.load_state_dict(scales_of.scaling.state_dict())
        model.transform.load_state_dict(scales_of.transform.state_dict())
    if model.linear_skip is not None:
        _start_from_least_squares(model, model.linear_skip, windows)
    return model


def _take_scales(model: RecurrentModel, windows: WindowSet) -> None:
    config = model.config
    chosen = spread_evenly(len(windows), max(1, SCALE_SAMPLE // (config.window * config.num_features)))
    sample = windows.batch(chosen, np.float64)
    values_MTF, targets_MK = torch.from_numpy(sample.windows), torch.from_numpy(sample.targets)
    if isinstance(model.scaling, SeriesScaling):
        _fill_table(model.scaling, windows)
    ruler = model.scaling.ruler(values_MTF, None if sample.series is None else torch.from_numpy(sample.series))
    if ruler is not None:
        values_MTF, targets_MK = ruler.rule(values_MTF), ruler.target_ruled(targets_MK)
    model.transform.fit(values_MTF.numpy(), targets_MK.numpy())


@torch.no_grad()
def _start_from_least_squares(model: RecurrentModel, linear_skip: LinearSkip, windows: WindowSet) -> None:
    """Let the model begin as the autoregression that fits best, and the cells with nothing to say."""
    precise = copy.deepcopy(model).double()
    numbers = model.config.window * model.config.input_size
    chosen = spread_evenly(len(windows), max(1, LEAST_SQUARES_SAMPLE // numbers))

    def lessons() -> Iterator[tuple[Tensor, Tensor]]:
        for part in np.array_split(chosen, max(1, len(chosen) * numbers // LEAST_SQUARES_BATCH)):
            batch = windows.batch(part, np.float64)
            times, series = (
                None if array is None else torch.from_numpy(array) for array in (batch.time_seconds, batch.series)
            )
            yield precise.lesson(torch.from_numpy(batch.windows), torch.from_numpy(batch.targets), times, series)

    weight, bias = least_squares(lessons())
    linear_skip.weight.copy_(weight)
    model.head.point.weight.zero_()
    model.head.point.bias.copy_(bias)


def _fill_table(scaling: SeriesScaling, windows: WindowSet) -> None:
    """Mean and deviation of each series' rows to fit on; an unknown series gets the median of them."""
    zero_SF = torch.zeros(scaling.num_series, scaling.num_features, dtype=torch.float64)
    unit_SF = torch.ones_like(zero_SF)
    known = []
    for number, own in windows.each_series():
        values_MTF = own.windows(max(1, SERIES_SAMPLE // own.window))
        mean_F, deviation_F = moments(values_MTF.reshape(-1, scaling.num_features))
        zero_SF[number], unit_SF[number] = torch.from_numpy(mean_F), torch.from_numpy(deviation_F)
        known.append(number)
    default = _median(zero_SF[known]), _median(unit_SF[known])
    missing = sorted(set(range(scaling.num_series)) - set(known))
    zero_SF[missing], unit_SF[missing] = default
    scaling.fill(zero_SF, unit_SF, *default)


def _median(values_SF: Tensor) -> Tensor:
    return values_SF.median(dim=0).values


def check_resolution(model: RecurrentModel, windows: WindowSet, features: Sequence[str]) -> None:
    """Refuse a series whose changes drown in single precision, which is what models see and servers take.

    Raises DataError naming the column if float32 numbers of its size lie further apart than RESOLUTION of the
    scale that the transform works in. Where each series has a unit of its own there is no one size to compare.
    """
    if model.config.scaling != "fit":
        return
    largest_F = windows.largest
    # Where there are channels of values and of differences, the latter are the finer.
    scale_F = model.transform.scale.double().numpy()[-len(features) :].copy()
    scale_F[0] = model.transform.target_scale[0].item()
    for name, largest, scale in zip(features, largest_F, scale_F, strict=True):
        spacing = float(np.spacing(np.float32(largest)))
        if spacing > RESOLUTION * scale:
            raise DataError(
                f"column {name!r} reaches {largest:g}, where single-precision numbers are {spacing:g} apart; its "
                f"changes are of scale {scale:g} and need {RESOLUTION * scale:g}: subtract a constant from the column"
            )
