"""A small artifact made by hand: a format needs no model."""

import io
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from export.artifact import golden
from export.artifact.folder import GOLDEN, WEIGHTS
from export.artifact.golden import GoldenCase
from export.artifact.limits import Tolerance
from export.artifact.manifest import File, Gate, Graph, Manifest, PlanEntry, Tensor, Transform, with_files
from export.artifact.manifest import encode as encode_manifest

MANIFEST = Manifest(
    schema_version=1,
    name="demo",
    version=3,
    cell="gru",
    window=4,
    hidden_size=2,
    num_layers=1,
    features=["load", "température"],
    transform=Transform(kind="difference", scale=0.5),
    direct_horizon=1,
    opset=20,
    ir_version=9,
    graphs={
        "window": Graph(
            file="window.onnx",
            lowering="unrolled",
            inputs=[Tensor(name="window", shape=["batch", 4, 2])],
            outputs=[Tensor(name="next", shape=["batch", 1], scale=0.5)],
        ),
        "step": Graph(
            file="graphs/step.onnx",
            lowering="step",
            inputs=[Tensor(name="value", shape=["batch", 2]), Tensor(name="initial_h.0", shape=["batch", 2])],
            outputs=[
                Tensor(name="next", shape=["batch", 1], scale=0.5),
                Tensor(name="final_h.0", shape=["batch", 2]),
            ],
        ),
    },
    plan=[PlanEntry(max_batch=8, graph="window"), PlanEntry(max_batch=None, graph="window")],
    not_steppable="",
    tolerance=Tolerance(),
    gate=Gate(worst_abs_error=1e-7, worst_share_of_limit=0.25, batches=[1, 7, 64]),
    fitted_on={"source": "counting", "rows": 1000, "split": [0.1, 0.2], "column": None},
    backtest={"rmse": 0.125},
    libraries={"numpy": "2"},
    files={},
)


def cases() -> dict[str, GoldenCase]:
    """For both graphs, 64 rows whose outputs are the sums of their inputs, so that `run_sums` is right."""
    generator = np.random.default_rng(0)
    made = {}
    for name, graph in MANIFEST.graphs.items():
        inputs = {
            tensor.name: generator.standard_normal((64, *(int(size) for size in tensor.shape[1:]))).astype(np.float32)
            for tensor in graph.inputs
        }
        made[name] = GoldenCase(inputs, run_sums(name, inputs))
    return made


def run_sums(graph: str, inputs: golden.Inputs) -> golden.Outputs:
    """Stands in for a session of both graphs."""
    total = sum(array.astype(np.float64).reshape(len(array), -1).sum(axis=1) for array in inputs.values())
    return {
        tensor.name: np.repeat(np.reshape(total, (-1, 1)), int(tensor.shape[1]), axis=1)
        for tensor in MANIFEST.graphs[graph].outputs
    }


def files() -> dict[str, bytes]:
    """Everything but the manifest. The graphs are no ONNX: only their bytes matter here."""
    return {
        "window.onnx": b"the window graph",
        "graphs/step.onnx": b"the step graph",
        GOLDEN: golden.encode(cases()),
        WEIGHTS: b"weights",
        "empty.txt": b"",
    }


def sealed(**changes: object) -> bytes:
    """manifest.json with its digest right, whatever `changes` put into it."""
    listed = msgspec.structs.replace(with_files(MANIFEST, digests(files())), **changes)
    return encode_manifest(listed)


def digests(content: dict[str, bytes]) -> dict[str, File]:
    return {name: File(sha256=sha256(data).hexdigest(), size=len(data)) for name, data in content.items()}


def npz(**arrays: NDArray[Any]) -> bytes:
    """An archive as numpy writes it, with pickles where an array holds objects."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()
