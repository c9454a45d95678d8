"""The export gate: no graph is published whose onnxruntime output leaves the reference by more than the limit.

Golden inputs are windows of the series the model was fitted on; random ones surround them. Both run at batch
1, 7 and 64. A model whose own float32 torch form breaks the limit is refused first, as ill-conditioned: then
no graph could keep it.
"""

import os
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from export.artifact import golden
from export.artifact.errors import ArtifactError
from export.artifact.golden import GoldenCase, Inputs
from export.artifact.limits import Deviation
from export.artifact.manifest import Manifest
from export.errors import ExportError
from export.evaluate import Reference
from training.model import RecurrentModel

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort


class Session:
    """Named graphs in onnxruntime on one CPU thread."""

    def __init__(self, graphs: Mapping[str, bytes]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions = {
            name: ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            for name, data in graphs.items()
        }

    def run(self, graph: str, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Outputs of one graph by name."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))


def random_windows(
    model: RecurrentModel, samples_NTF: NDArray[np.float32], generator: np.random.Generator, count: int
) -> NDArray[np.float32]:
    """Windows [count, T, F] of the model's own scale: noise around its mean, or walks from where samples start."""
    config, transform = model.config, model.transform
    shape = (count, config.window, config.num_features)
    noise = transform.mean.numpy() + transform.scale.numpy() * generator.standard_normal(shape)
    if transform.kind == "standardize":
        return noise.astype(np.float32)
    start = samples_NTF[generator.integers(len(samples_NTF), size=count), :1]
    return (start + np.cumsum(noise, axis=1)).astype(np.float32)


def golden_cases(
    model: RecurrentModel, windows_NTF: NDArray[np.float32], graph_names: list[str]
) -> dict[str, GoldenCase]:
    """Inputs and reference outputs for each graph."""
    reference = Reference(model)
    cases = {}
    for name in graph_names:
        inputs = reference.step_inputs(windows_NTF) if name == "step" else {"window": windows_NTF}
        cases[name] = GoldenCase(inputs, reference.run(name, inputs))
    return cases


def check(
    model: RecurrentModel, manifest: Manifest, graphs: Mapping[str, bytes], cases: list[dict[str, GoldenCase]]
) -> Deviation:
    """Compare every graph with the reference on every case. Raises ExportError; returns the worst deviation seen."""
    single = Reference(model, dtype=torch.float32)
    session = Session(graphs)
    worst = Deviation()
    for case in cases:
        try:
            golden.replay(manifest, case, single.run)
        except ArtifactError as error:
            raise ExportError(
                f"ill-conditioned: float32 torch itself leaves the float64 reference on the same weights ({error}); "
                "fit with smaller weights (more weight decay, a shorter window or another cell)"
            ) from None
        try:
            worst = worst.worst(golden.replay(manifest, case, session.run))
        except ArtifactError as error:
            raise ExportError(f"the exported graph does not compute what the model computes: {error}") from None
    return worst
