"""Runs on a device: every batch is filled up to a bucket, whose inputs and outputs stay where they are.

A bucket is a number of rows, a power of two up to the largest batch. Its device memory is bound once and lives as long
as the session, which is what a CUDA graph needs: the kernels of a run, captured once for each bucket and then launched
in one go, read and write the same addresses again.

onnxruntime keeps captured graphs by the thread that ran, so a session belongs to one thread, from loading on. And a
capture fails if any other thread copies or allocates on the device meanwhile, so all sessions on it take turns.
"""

import threading
from bisect import bisect_left
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export.artifact import plan
from server.buffers import DTYPES, batch_shape, put
from server.pinned import pinned_zeros
from server.tensors import Tensors

Device = Literal["cpu", "cuda"]

# Held by whoever loads or runs on the device.
TURN = threading.Lock()

# The run option that names a captured graph, and the name that means: not in this run.
GRAPH_ID, NO_GRAPH = "gpu_graph_id", -1


class Buckets:
    """One session's buckets, made as they are first used."""

    def __init__(self, session: ort.InferenceSession, device: Device, *, largest: int, capture: bool) -> None:
        """`capture`: each bucket's first run captures a CUDA graph; the session has `enable_cuda_graph`."""
        self._session = session
        self._device = device
        self._capture = capture
        self._sizes = plan.buckets(largest)
        self._buckets: dict[int, _Bucket] = {}
        self._outputs = [output.name for output in session.get_outputs()]
        self._uncaptured = run_options(NO_GRAPH)

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs by name, copies in host memory; raises what `put` raises.

        More rows than the largest bucket run unbound and uncaptured.
        """
        num_rows = len(next(iter(inputs.values())))
        if num_rows > self._sizes[-1]:
            arrays = self._session.run(self._outputs, inputs, self._uncaptured)
            return dict(zip(self._outputs, arrays, strict=True))
        return self._bucket(self._sizes[bisect_left(self._sizes, num_rows)]).run(inputs, num_rows)

    def try_out(self) -> None:
        """Run the smallest bucket on zeros, twice: with `capture` that captures a graph and launches it."""
        bucket = self._bucket(self._sizes[0])
        zeros = {
            each.name: np.zeros(batch_shape(each, self._sizes[0]), DTYPES[each.type])
            for each in self._session.get_inputs()
        }
        for _ in range(2):
            bucket.run(zeros, self._sizes[0])

    def _bucket(self, size: int) -> "_Bucket":
        if size not in self._buckets:
            self._buckets[size] = _Bucket(
                self._session, self._device, size, graph_id=size if self._capture else NO_GRAPH
            )
        return self._buckets[size]


class _Bucket:
    """Inputs and outputs of so many rows, on the device."""

    def __init__(self, session: ort.InferenceSession, device: Device, num_rows: int, *, graph_id: int) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._options = run_options(graph_id)
        # What a run is given is gathered here: rows behind it are left over, and no row of a graph reads another.
        self._staging: Tensors = {}
        self._inputs: dict[str, ort.OrtValue] = {}
        self._outputs: dict[str, ort.OrtValue] = {}
        for each in session.get_inputs():
            shape, dtype = batch_shape(each, num_rows), DTYPES[each.type]
            self._staging[each.name] = pinned_zeros(shape, dtype) if device == "cuda" else np.zeros(shape, dtype)
            value = self._inputs[each.name] = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
            self._binding.bind_ortvalue_input(each.name, value)
        for each in session.get_outputs():
            shape, dtype = batch_shape(each, num_rows), DTYPES[each.type]
            value = self._outputs[each.name] = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
            self._binding.bind_ortvalue_output(each.name, value)

    def run(self, inputs: Tensors, num_rows: int) -> Tensors:
        """The first `num_rows` rows of each output."""
        for name, staged in self._staging.items():
            put(name, inputs[name], staged[:num_rows])
            self._inputs[name].update_inplace(staged)
        self._session.run_with_iobinding(self._binding, self._options)
        # Captured graphs run on a stream that a copy does not wait for by itself.
        self._binding.synchronize_outputs()
        return {name: _copied(value, num_rows) for name, value in self._outputs.items()}


def _copied(value: ort.OrtValue, num_rows: int) -> NDArray[Any]:
    """The first rows; of a value in host memory `numpy` gives a view."""
    array: NDArray[Any] = value.numpy()
    return array[:num_rows].copy()


def run_options(graph_id: int) -> ort.RunOptions:
    """Of a run that captures, or launches, the CUDA graph of that name; NO_GRAPH is none."""
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph_id))
    return options
