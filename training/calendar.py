"""What the clock and the calendar say, as channels beside the values.

Shapes: B batch, T window, C channels.

A channel is a sine or cosine of the time's phase in a period, so that midnight is next to midnight; a few
harmonics let a model tell 8 from 9 o'clock:

    phase_k = 2π · ((k · time_seconds mod period) − period/2) / period        k = 1 … harmonics

The remainder is taken of whole numbers, so nothing is lost to rounding however far from 1970.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Cycle(NamedTuple):
    """A period in seconds, and how many harmonics of it are given."""

    period: int
    harmonics: int


# The year of the Gregorian calendar: 365.2425 days.
CYCLES = {"day": Cycle(86_400, 3), "week": Cycle(604_800, 3), "year": Cycle(31_556_952, 1)}


def num_channels(names: tuple[str, ...]) -> int:
    """How many channels the named cycles give."""
    return sum(2 * CYCLES[name].harmonics for name in names)


def harmonics(names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Period and multiple of every pair of channels, in their order."""
    return [(CYCLES[name].period, k) for name in names for k in range(1, CYCLES[name].harmonics + 1)]


def channels(names: tuple[str, ...], time_seconds_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """The channels [B, T, C]: for each harmonic its sine and its cosine. `time_seconds_BT` is int64, UTC."""
    found = []
    for period, k in harmonics(names):
        steps = torch.remainder(time_seconds_BT * k, period) - period // 2
        phase = steps.to(dtype) * (2 * math.pi / period)
        found += [torch.sin(phase), torch.cos(phase)]
    return torch.stack(found, dim=-1)
