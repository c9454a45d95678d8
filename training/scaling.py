"""Where the unit of a series comes from, so that many series of many sizes can share one model.

Shapes: B batch, T window, F features, S series.

    ruled_BTF, ruler = scaling.rule(window_BTF, series_B1)      values in units of their own series
    raw              = ruler.raw(value_B1)                      back again

`fit` leaves values as they are: one scale for all is the transform's. `window` measures each window by itself.
`series` looks the unit up in a table fitted on the training part, by the number of the series.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Ruler(NamedTuple):
    """Zero and unit of each row of a batch, both [B, 1, F]; None where raw units are used as they are."""

    zero: Tensor
    unit: Tensor

    def rule(self, values_BTF: Tensor) -> Tensor:
        """Raw values in this ruler's units."""
        return (values_BTF - self.zero) / self.unit

    def target_raw(self, values_BH: Tensor) -> Tensor:
        """Values of the target, feature 0, back in raw units."""
        return self.zero[:, :, 0] + values_BH * self.unit[:, :, 0]

    def target_ruled(self, values_BH: Tensor) -> Tensor:
        """Raw values of the target in this ruler's units."""
        return (values_BH - self.zero[:, :, 0]) / self.unit[:, :, 0]


class Scaling(nn.Module):
    """`fit`: raw units are what the transform sees."""

    kind: ClassVar[str] = "fit"
    steppable: ClassVar[bool] = True

    def __init__(self, num_features: int, num_series: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_series = num_series

    def ruler(self, window_BTF: Tensor, series_B1: Tensor | None) -> Ruler | None:  # noqa: ARG002 (the interface)
        """The ruler of each row, or None."""
        return None


class WindowScaling(Scaling):
    """`window`: zero is the window's last value, the unit its mean distance from it.

    The last value and not the mean: subtracting it loses nothing. A window of one value throughout has no unit and
    takes 1. The whole window is needed, so such a model cannot be stepped.
    """

    kind = "window"
    steppable = False

    def ruler(self, window_BTF: Tensor, series_B1: Tensor | None) -> Ruler:  # noqa: ARG002 (the interface)
        """Measured from the window itself."""
        zero = window_BTF[:, -1:]
        unit = (window_BTF - zero).abs().mean(dim=1, keepdim=True)
        return Ruler(zero=zero, unit=torch.where(unit == 0, torch.ones_like(unit), unit))


class SeriesScaling(Scaling):
    """`series`: zero and unit by the number of the series; any other number takes the last row, the default."""

    kind = "series"

    zero: Tensor
    unit: Tensor

    def __init__(self, num_features: int, num_series: int) -> None:
        super().__init__(num_features, num_series)
        self.register_buffer("zero", torch.zeros(num_series + 1, num_features))
        self.register_buffer("unit", torch.ones(num_series + 1, num_features))

    def fill(self, zero_SF: Tensor, unit_SF: Tensor, default_zero_F: Tensor, default_unit_F: Tensor) -> None:
        """Take the table [S, F] and what an unknown series gets [F]."""
        self.zero.copy_(torch.cat((zero_SF, default_zero_F[None])))
        self.unit.copy_(torch.cat((unit_SF, default_unit_F[None])))

    def ruler(self, window_BTF: Tensor, series_B1: Tensor | None) -> Ruler:  # noqa: ARG002 (the interface)
        """Looked up. Raises ValueError if no series were given."""
        if series_B1 is None:
            raise ValueError("series is missing; a model scaled by series needs the number of each window's series")
        is_known = (series_B1 >= 0) & (series_B1 < self.num_series)
        row = torch.where(is_known, series_B1, torch.full_like(series_B1, self.num_series))
        return Ruler(zero=self.zero[row], unit=self.unit[row])


SCALINGS: dict[str, type[Scaling]] = {cls.kind: cls for cls in (Scaling, WindowScaling, SeriesScaling)}
