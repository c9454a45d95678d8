"""golden.npz: inputs and what the reference made of them, for window graphs (which all do the same) and all others.

Arrays are named `window/<tensor>`, `step/<tensor>` and so on: inputs float32, outputs float64 (the reference evaluated
in float64 on the float32 weights), the batch dimension first. Pickled arrays are refused.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN
from export.artifact.limits import Deviation, deviation
from export.artifact.manifest import ROLLOUTS, STEP, WINDOW, Graph, Manifest, Tensor

# float32 values, and int64 times and numbers of series.
Inputs = dict[str, NDArray[Any]]
Outputs = dict[str, NDArray[np.float64]]
# Runs one named graph: inputs by name in, outputs by name out.
RunGraph = Callable[[str, Inputs], Mapping[str, NDArray[np.floating]]]

# One window, an odd few, and a full batch: kernels differ between them.
BATCHES = (1, 7, 64)

# Outputs that lie a product away from `next`.
ENDS = ("lower", "upper")

# What np.load makes of bytes that are no archive of plain arrays: TypeError for a lone array, RuntimeError for one
# that says it is encrypted, NotImplementedError (a RuntimeError) for a compression of another day.
_BROKEN = (ValueError, TypeError, RuntimeError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


class GoldenCase:
    """Inputs and reference outputs of one graph, all with the same batch size."""

    def __init__(self, inputs: Inputs, outputs: Outputs) -> None:
        self.inputs = inputs
        self.outputs = outputs


def encode(cases: Mapping[str, GoldenCase]) -> bytes:
    """The bytes of golden.npz."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for graph, case in cases.items():
        arrays |= {f"{_stored(graph)}/{name}": array for name, array in case.inputs.items()}
        arrays |= {f"{_stored(graph)}/{name}": array for name, array in case.outputs.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def decode(data: bytes, manifest: Manifest) -> dict[str, GoldenCase]:
    """The cases for every graph.

    Raises ArtifactError naming the array that is missing, or is not what the manifest says of its tensor.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _BROKEN as error:
        raise ArtifactError(f"{GOLDEN}: {error}") from None
    cases = {}
    for name, graph in manifest.graphs.items():
        stored = _stored(name)
        try:
            cases[name] = GoldenCase(
                inputs={tensor.name: arrays[f"{stored}/{tensor.name}"] for tensor in graph.inputs},
                outputs={tensor.name: arrays[f"{stored}/{tensor.name}"] for tensor in graph.outputs},
            )
        except KeyError as error:
            raise ArtifactError(f"{GOLDEN}: has no array {error}") from None
        _check_case(name, graph, cases[name])
    return cases


def _stored(graph: str) -> str:
    """What arrays of a graph are named by."""
    return graph if graph in (STEP, *ROLLOUTS) else WINDOW


def _check_case(name: str, graph: Graph, case: GoldenCase) -> None:
    """A case without rows, or with strings for numbers, would check nothing."""
    arrays: dict[str, NDArray[np.generic]] = {**case.inputs, **case.outputs}
    rows = {array.shape[:1] for array in arrays.values()}
    if len(rows) != 1 or rows & {(), (0,)}:
        raise ArtifactError(f"{GOLDEN}: the arrays of {name!r} do not share one number of rows, at least 1")
    for tensor in (*graph.inputs, *graph.outputs):
        array, dtype = arrays[tensor.name], tensor.dtype if tensor.name in case.inputs else "float64"
        if array.dtype != dtype or list(array.shape[1:]) != tensor.shape[1:]:
            raise ArtifactError(
                f"{GOLDEN}: {name}/{tensor.name} is {array.dtype} {list(array.shape)}; "
                f"it must be {dtype} {tensor.shape}"
            )


def replay(manifest: Manifest, cases: Mapping[str, GoldenCase], run: RunGraph) -> Deviation:
    """Run every case at every batch size of BATCHES and compare. Raises ArtifactError on the first mismatch.

    Returns the worst deviation of the predictions and states seen.
    """
    worst = Deviation()
    for graph, case in cases.items():
        for batch in BATCHES:
            inputs = {name: array[:batch] for name, array in case.inputs.items()}
            served = run(graph, inputs)
            for tensor in manifest.graphs[graph].outputs:
                expected = {name: array[:batch] for name, array in case.outputs.items()}
                found = compare(served[tensor.name], expected, tensor, manifest, graph)
                if not found.within:
                    where = f"{graph} graph ({manifest.graphs[graph].file}), output {tensor.name!r}, batch {batch}"
                    raise ArtifactError(
                        f"{GOLDEN}: {where}: off by {found.abs_error:.3g}, {found.share_of_limit:.3g} times the limit"
                    )
                worst = worst.worst(found)
    return worst


def compare(
    served: NDArray[np.floating],
    expected: Mapping[str, NDArray[np.float64]],
    tensor: Tensor,
    manifest: Manifest,
    graph: str,
) -> Deviation:
    """The deviation of one output of `graph`, given all of the reference's. Raises ArtifactError if shapes differ."""
    scale = tensor.scale * expected[tensor.unit] if tensor.unit else tensor.scale
    try:
        if tensor.name in ENDS:
            reach_BKL = np.abs(expected[tensor.name] - expected["next"][..., None])
            scale = np.reshape(scale, (-1, 1, 1)) + reach_BKL
        fed_back = graph in ROLLOUTS and tensor.name == "next"
        return deviation(served, expected[tensor.name], scale, manifest.tolerance_of(graph), fed_back=fed_back)
    except ValueError as error:
        raise ArtifactError(f"{GOLDEN}: {graph} graph: {error}") from None
