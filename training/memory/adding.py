"""The adding problem (Hochreiter & Schmidhuber 1997, section 5.4; in this form Le, Jaitly & Hinton 2015).

Shapes: B sequences, T steps, 2 channels.

A sequence of random values, two of which are marked, one in each half. At the end: what is the sum of the two?
Nothing but the memory carries the first of them there, past up to T - 2 other values that look just the same.

    value_t  ~ U(0, 1)        marker_t = 1 at one place of the first half and one of the second, else 0
    target   = Σ value_t · marker_t

Always answering 1, the mean, is off by the variance of a sum of two uniform values.
"""

import torch
from torch import Tensor

BASELINE_MSE = 2 / 12
NUM_CHANNELS = 2
# Two halves with a value to pass over in each.
SHORTEST = 4


def adding_problem(num_sequences: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """New sequences [B, T, 2] (value, marker) and the sums of the marked values [B, 1]."""
    half = length // 2
    value_BT = torch.rand(num_sequences, length, generator=generator)
    first_B1 = torch.randint(0, half, (num_sequences, 1), generator=generator)
    second_B1 = torch.randint(half, length, (num_sequences, 1), generator=generator)
    marker_BT = torch.zeros_like(value_BT).scatter_(1, torch.cat((first_B1, second_B1), dim=1), 1)
    return torch.stack((value_BT, marker_BT), dim=2), (value_BT * marker_BT).sum(dim=1, keepdim=True)
