"""The step between raw units and what a cell sees; part of the model, so callers never scale anything.

Shapes: B batch, T window, F features (feature 0 is the target), C channels (F, or a multiple of it), K horizons.

    x_BTF, anchor_B1 = transform.encode(window_BTF)     what the cells read; what the predictions are relative to
    next_BK          = transform.decode(y_BK, anchor_B1)

A transform that can be stepped does the same one value at a time, carrying a state of its own.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# A scale below this share of the largest magnitude is rounding noise of a constant; it becomes 1.
SMALLEST_RELATIVE_SCALE = 1e-12


class NoState(NamedTuple):
    """The state of a transform that looks at one value at a time."""


class DifferenceState(NamedTuple):
    """`last` [B, F] is the previous value; `seen` [B, 1] is 0 before the first value and 1 after it."""

    last: Tensor
    seen: Tensor


TransformState = NoState | DifferenceState


def moments(values_MF: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation [F] of the rows, with a vanishing deviation replaced by 1."""
    mean_F = values_MF.mean(axis=0)
    scale_F = values_MF.std(axis=0)
    scale_F[scale_F <= SMALLEST_RELATIVE_SCALE * np.abs(values_MF).max(axis=0)] = 1.0
    return mean_F, scale_F


class Transform(nn.Module):
    """Affine scaling shared by all transforms: inputs by `mean`, `scale` [C]; the targets by `target_*` [K].

    Subclasses say what is scaled: the values, their differences, or their distance to the window's end.
    """

    kind: ClassVar[str]
    steppable: ClassVar[bool] = True
    # What the cells read of each feature.
    channels_per_feature: ClassVar[int] = 1

    mean: Tensor
    scale: Tensor
    target_mean: Tensor
    target_scale: Tensor

    def __init__(self, num_features: int, horizon: int = 1) -> None:
        super().__init__()
        num_channels = num_features * self.channels_per_feature
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("scale", torch.ones(num_channels))
        self.register_buffer("target_mean", torch.zeros(horizon))
        self.register_buffer("target_scale", torch.ones(horizon))

    def fit(self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]) -> None:
        """Take the scales from the windows of the training part and the values that followed them."""
        inputs_NF, offsets_NK = self.to_scale(windows_MTF, targets_MK)
        mean_F, scale_F = moments(inputs_NF)
        target_mean, target_scale = moments(offsets_NK)
        for buffer, value in (
            (self.mean, mean_F),
            (self.scale, scale_F),
            (self.target_mean, target_mean),
            (self.target_scale, target_scale),
        ):
            buffer.copy_(torch.from_numpy(value))

    def to_scale(
        self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The quantities the scales are taken of: inputs [N, F] and target offsets [N, K]."""
        raise NotImplementedError

    def encode(self, window_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """What the cells read, [B, T, F], and the anchor of the predictions, [B, 1]."""
        raise NotImplementedError

    def anchors(self, window_BTF: Tensor) -> Tensor:
        """The anchor of a prediction made after each step of the window, [B, T, 1]."""
        return window_BTF[:, :, :1]

    def encode_target(self, target_BK: Tensor, anchor_B1: Tensor) -> Tensor:
        """The inverse of decode: where the output should have been, [B, K]."""
        return (target_BK - anchor_B1 - self.target_mean) / self.target_scale

    def encode_next(self, next_B: Tensor, anchor_B: Tensor) -> Tensor:
        """Where the first output should have been, in any shape."""
        return (next_B - anchor_B - self.target_mean[0]) / self.target_scale[0]

    def decode(self, y_BK: Tensor, anchor_B1: Tensor) -> Tensor:
        """The predictions in raw units, [B, K]."""
        return anchor_B1 + (y_BK * self.target_scale + self.target_mean)

    def initial_state(self, value_BF: Tensor) -> TransformState:  # noqa: ARG002 (the interface)
        """The state before the first value."""
        return NoState()

    def step(self, value_BF: Tensor, state: TransformState) -> tuple[Tensor, Tensor, TransformState]:
        """What the cells read of one value [B, F], its anchor [B, 1] and the new state."""
        raise NotImplementedError

    def anchor_before(self, value_BF: Tensor, state: TransformState) -> Tensor:  # noqa: ARG002 (the interface)
        """The anchor [B, 1] of what was said in front of this value."""
        return torch.zeros_like(value_BF[:, :1])


class Standardize(Transform):
    """x = (w - mean) / scale; the prediction is scaled back by the target's own mean and scale."""

    kind = "standardize"

    def to_scale(
        self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The values themselves."""
        return windows_MTF.reshape(-1, windows_MTF.shape[2]), targets_MK

    def encode(self, window_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled values; the anchor is 0."""
        return (window_BTF - self.mean) / self.scale, torch.zeros_like(window_BTF[:, -1, :1])

    def anchors(self, window_BTF: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(window_BTF[:, :, :1])

    def step(self, value_BF: Tensor, state: TransformState) -> tuple[Tensor, Tensor, TransformState]:
        """One scaled value; the anchor is 0."""
        return (value_BF - self.mean) / self.scale, torch.zeros_like(value_BF[:, :1]), state


class Difference(Transform):
    """x_t = ((w_t - w_{t-1}) - mean) / scale, the first difference being 0; the anchor is the last value."""

    kind = "difference"

    def to_scale(
        self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Differences inside the windows; windows of one value have none, so nothing to scale."""
        offsets_MK = targets_MK - windows_MTF[:, -1, :1]
        inputs_NF = np.diff(windows_MTF, axis=1).reshape(-1, windows_MTF.shape[2])
        return (inputs_NF if len(inputs_NF) else np.zeros((1, windows_MTF.shape[2]))), offsets_MK

    def encode(self, window_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled differences; the anchor is the window's last target value."""
        previous_BTF = torch.cat((window_BTF[:, :1], window_BTF[:, :-1]), dim=1)
        return (window_BTF - previous_BTF - self.mean) / self.scale, window_BTF[:, -1, :1]

    def initial_state(self, value_BF: Tensor) -> DifferenceState:
        """Nothing seen: zeros."""
        return DifferenceState(last=torch.zeros_like(value_BF), seen=torch.zeros_like(value_BF[:, :1]))

    def step(self, value_BF: Tensor, state: TransformState) -> tuple[Tensor, Tensor, TransformState]:
        """One scaled difference, 0 before anything was seen; the anchor is the value."""
        assert isinstance(state, DifferenceState)
        difference_BF = (value_BF - state.last) * state.seen
        after = DifferenceState(last=value_BF, seen=torch.ones_like(state.seen))
        return (difference_BF - self.mean) / self.scale, value_BF[:, :1], after

    def anchor_before(self, value_BF: Tensor, state: TransformState) -> Tensor:  # noqa: ARG002 (the interface)
        """The value in front."""
        assert isinstance(state, DifferenceState)
        return state.last[:, :1]


class ValueAndDifference(Difference):
    """Both: x_t = [(w_t - mean) / scale; ((w_t - w_{t-1}) - mean) / scale], each with scales of its own.

    The level says where the series is, the difference where it is going; the anchor is the last value. Channels are
    the values of all features, then their differences.
    """

    kind = "value-and-difference"
    channels_per_feature = 2

    def fit(self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]) -> None:
        """As Transform's, with the values' scales in front of the differences'."""
        num_features = windows_MTF.shape[2]
        differences_NF, offsets_NK = self.to_scale(windows_MTF, targets_MK)
        scales = [moments(windows_MTF.reshape(-1, num_features)), moments(differences_NF)]
        self.mean.copy_(torch.from_numpy(np.concatenate([mean_F for mean_F, _ in scales])))
        self.scale.copy_(torch.from_numpy(np.concatenate([scale_F for _, scale_F in scales])))
        target_mean, target_scale = moments(offsets_NK)
        self.target_mean.copy_(torch.from_numpy(target_mean))
        self.target_scale.copy_(torch.from_numpy(target_scale))

    def encode(self, window_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled values and differences; the anchor is the window's last target value."""
        previous_BTF = torch.cat((window_BTF[:, :1], window_BTF[:, :-1]), dim=1)
        both_BTC = torch.cat((window_BTF, window_BTF - previous_BTF), dim=2)
        return (both_BTC - self.mean) / self.scale, window_BTF[:, -1, :1]

    def step(self, value_BF: Tensor, state: TransformState) -> tuple[Tensor, Tensor, TransformState]:
        """One scaled value and difference, the difference 0 before anything was seen; the anchor is the value."""
        assert isinstance(state, DifferenceState)
        both_BC = torch.cat((value_BF, (value_BF - state.last) * state.seen), dim=1)
        after = DifferenceState(last=value_BF, seen=torch.ones_like(state.seen))
        return (both_BC - self.mean) / self.scale, value_BF[:, :1], after


class LastValue(Transform):
    """x_t = ((w_t - w_T) - mean) / scale, relative to the window's end; the anchor is the last value.

    Every value depends on the window's end, so there is nothing to carry from step to step.
    """

    kind = "last-value"
    steppable = False

    def to_scale(
        self, windows_MTF: NDArray[np.float64], targets_MK: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances to the window's end, the end itself (always 0) left out where there is more."""
        distances_MTF = windows_MTF - windows_MTF[:, -1:]
        if distances_MTF.shape[1] > 1:
            distances_MTF = distances_MTF[:, :-1]
        return distances_MTF.reshape(-1, windows_MTF.shape[2]), targets_MK - windows_MTF[:, -1, :1]

    def encode(self, window_BTF: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled distances to the window's end; the anchor is that end."""
        return (window_BTF - window_BTF[:, -1:] - self.mean) / self.scale, window_BTF[:, -1, :1]


TRANSFORMS: dict[str, type[Transform]] = {
    cls.kind: cls for cls in (Standardize, Difference, ValueAndDifference, LastValue)
}
