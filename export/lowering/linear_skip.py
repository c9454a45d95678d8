"""What is linear in the window, as ONNX nodes, mirroring training/linear_skip.py.

Shapes: B batch, T window, I inputs of a step, K horizons.
"""

import numpy as np
from numpy.typing import NDArray

from export.graph import GraphBuilder
from export.lowering.source import Source

# A matrix of all sums grows with the square of the window; in wider ones a convolution makes them, of fewer numbers
# and many times slower.
WIDEST_MATRIX = 256


def after_last(g: GraphBuilder, source: Source, x: str) -> str | None:
    """The sum [B, K] over what the cells read, [B, T, I]; None where the model has none."""
    if not source.config.linear_skip:
        return None
    return g.op("MatMul", g.op("Flatten", x), g.weight("linear_skip"))


def before_last(g: GraphBuilder, source: Source, x: str) -> str | None:
    """The first horizon's sums after all values but the last, [T - 1, B]; None where the model has none."""
    window = source.config.window
    if not source.config.linear_skip:
        return None
    kernel_TI = source.weights["linear_skip"][:, 0].reshape(window, -1)
    if window <= WIDEST_MATRIX:
        sums = g.op("MatMul", g.op("Flatten", x), g.constant("linear_skip.earlier", _matrix(kernel_TI)))
        return g.op("Transpose", sums)
    seen = g.op("Slice", x, g.ints(0), g.ints(window - 1), g.ints(1))
    kernel = g.constant("linear_skip.kernel", kernel_TI.T[None])
    sums = g.op("Conv", g.op("Transpose", seen, perm=[0, 2, 1]), kernel, pads=[window - 1, 0])
    return g.op("Transpose", g.op("Squeeze", sums, g.ints(1)))


def _matrix(kernel_TI: NDArray[np.float32]) -> NDArray[np.float32]:
    """[T·I, T - 1]: column t holds the kernel so that its end is at the inputs of step t, 0 behind them."""
    window, num_inputs = kernel_TI.shape
    matrix = np.zeros((window, num_inputs, window - 1), np.float32)
    for t in range(window - 1):
        matrix[: t + 1, :, t] = kernel_TI[window - 1 - t :]
    return matrix.reshape(window * num_inputs, window - 1)
