"""What is linear in the window, beside the cells: the autoregression of LSTNet (Lai et al. 2018).

Shapes: B batch, T window, I inputs of a step, K horizons.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Added to the sum of squares of each input, as a share of their mean: inputs that follow from each other have no one
# least-squares solution.
RIDGE = 1e-6


class LinearSkip(nn.Module):
    """y = Σ_t A_t x_t, which is added to what the head says of the cells' last output.

    A series that is mostly an autoregression leaves the cells the rest of it to learn.
    """

    def __init__(self, window: int, input_size: int, horizon: int) -> None:
        super().__init__()
        self.window = window
        self.weight = nn.Parameter(torch.zeros(horizon, window * input_size))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """The sum, [B, K]."""
        return functional.linear(x_BTI.flatten(1), self.weight)

    def after_each(self, x_BTI: Tensor, num_steps: int) -> Tensor:
        """The sums after each of the last `num_steps` steps S, [B, S, K]: a convolution, 0 in front of the window."""
        kernel_KIT = self.weight.view(len(self.weight), self.window, -1).transpose(1, 2)
        x_BIT = functional.pad(x_BTI.transpose(1, 2), (num_steps - 1, 0))
        return functional.conv1d(x_BIT, kernel_KIT).transpose(1, 2)


def least_squares(lessons: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The weight [K, T * I] and bias [K] that fit batches of inputs [B, T, I] and targets [B, K] best, in float64."""
    squares, products, count = torch.zeros(()), torch.zeros(()), 0
    for x_BTI, target_BK in lessons:
        row_BJ = functional.pad(x_BTI.double().flatten(1), (0, 1), value=1.0)
        squares, products = squares + row_BJ.T @ row_BJ, products + row_BJ.T @ target_BK.double()
        count += len(row_BJ)
    ridge_J = torch.full((len(squares),), RIDGE * float(squares.diagonal().mean()), dtype=squares.dtype)
    solution_JK = torch.linalg.solve(squares + ridge_J.diag(), products)
    return solution_JK[:-1].T, solution_JK[-1]
