"""Inputs and outputs in memory of their own, which onnxruntime is told of once."""

from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from server.tensors import Tensors

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def batch_shape(tensor: ort.NodeArg, num_rows: int) -> list[int]:
    """The shape of a tensor whose one open dimension is the batch's."""
    return [num_rows if isinstance(size, str) else size for size in tensor.shape]


def put(name: str, given: NDArray[Any], into: NDArray[Any]) -> None:
    """Copy an input into memory that was made for it.

    Raises ValueError where the shape is another, which copyto might stretch, and TypeError where the dtype is.
    """
    if given.shape != into.shape:
        raise ValueError(f"{name} is {list(given.shape)}; it must be {list(into.shape)}")
    np.copyto(into, given, casting="no")


class HostBuffers:
    """Those of one batch size in host memory, for the CPU's graphs."""

    def __init__(self, session: ort.InferenceSession, num_rows: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {each.name: _empty(each, num_rows) for each in session.get_inputs()}
        self._outputs = {each.name: _empty(each, num_rows) for each in session.get_outputs()}
        for bind, arrays in ((self._binding.bind_input, self._inputs), (self._binding.bind_output, self._outputs)):
            for name, array in arrays.items():
                bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name, copied out of the shared memory. Raises what `put` raises."""
        for name, array in self._inputs.items():
            put(name, inputs[name], array)
        self._session.run_with_iobinding(self._binding)
        return {name: array.copy() for name, array in self._outputs.items()}


def _empty(tensor: ort.NodeArg, num_rows: int) -> NDArray[Any]:
    return np.empty(batch_shape(tensor, num_rows), DTYPES[tensor.type])
