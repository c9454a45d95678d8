"""How windows lie in what the unrolled steps compute, and a layer's bias as a part of its product.

    rows       Y = [x, h, 1] [W, b]ᵀ       a window in each row, [B, H]
    columns    Y = [W, b] [x; h; 1]        a window in each column, [H, B]

A bias of its own would be written into Y first, for the product to be added to: a pass over Y for each layer.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from export.graph import GraphBuilder


class Layout(GraphBuilder):
    """Writes into another builder's graph; its layers have their biases as the last columns of their weights."""

    features_axis: ClassVar[int]

    def __init__(self, g: GraphBuilder, x: str) -> None:
        """`x`: any value that is laid out this way, for as many ones as there are windows."""
        super().__init__({})
        vars(self).update(vars(g))
        one = self.op("Slice", x, self.ints(0), self.ints(1), self.ints(self.features_axis))
        # Whatever is read there, between 1 and 1 it is 1.
        self._ones = self.op("Clip", one, self.scalar(1.0), self.scalar(1.0))

    def join(self, *parts: str) -> str:
        """What `linear` reads: the values' features behind one another, and 1."""
        return self.op("Concat", *parts, self._ones, axis=self.features_axis)

    @abstractmethod
    def linear(self, x: str, layer: str, *, of_input: bool = False) -> str:
        """Y, where x is joined; `of_input` as for any builder."""

    def _with_bias(self, layer: str, of_input: bool) -> str:
        name = f"{layer}.weight_and_bias" + ".input" * of_input
        return self.constant(name, np.column_stack([self.multiplied(layer, of_input=of_input), self._bias(layer)]))

    def _bias(self, layer: str) -> NDArray[np.float32]:
        return self._weights[f"{layer}.bias"]


class Rows(Layout):
    """A window in each row."""

    features_axis = 1

    def linear(self, x: str, layer: str, *, of_input: bool = False) -> str:
        """X [W, b]ᵀ."""
        return self.op("Gemm", x, self._with_bias(layer, of_input), transB=1)


class Columns(Layout):
    """A window in each column."""

    features_axis = 0

    def linear(self, x: str, layer: str, *, of_input: bool = False) -> str:
        """[W, b] x."""
        return self.op("Gemm", self._with_bias(layer, of_input), x)

    def bias(self, layer: str) -> str:
        """[H, 1]."""
        return self.constant(f"{layer}.bias_column", self._bias(layer)[:, None])
