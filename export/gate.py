"""The export gate: no graph is published whose onnxruntime output leaves the reference by more than the limit.

Golden inputs are windows of the series the model was fitted on; random ones surround them. Both run at batch
1, 7 and 64. A model whose own float32 torch form breaks the limit is refused first, as ill-conditioned: then
no graph could keep it.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from export.artifact import golden
from export.artifact.errors import ArtifactError
from export.artifact.golden import GoldenCase, Inputs
from export.artifact.limits import Deviation
from export.artifact.manifest import ROLLOUTS, STEP, WINDOW, Manifest
from export.errors import ExportError
from export.evaluate import Reference
from training.model import RecurrentModel

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

# The end of the year 2100, in seconds since 1970.
LAST_TIME = 4_133_980_800


PROVIDER = "CPUExecutionProvider"


class Session:
    """Named graphs in onnxruntime on one CPU thread."""

    def __init__(self, graphs: Mapping[str, bytes]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._sessions = {
            name: ort.InferenceSession(data, options, providers=[PROVIDER]) for name, data in graphs.items()
        }

    def run(self, graph: str, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        """Outputs of one graph by name."""
        session = self._sessions[graph]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))


def random_inputs(model: RecurrentModel, samples: Inputs, generator: np.random.Generator, count: int) -> Inputs:
    """Inputs of the window graph of the model's own scale: windows around those of `samples`, any time and series.

    Windows [count, T, F] are noise around the mean, or walks from where samples start.
    """
    config, transform = model.config, model.transform
    shape = (count, config.window, config.num_features)
    chosen = generator.integers(len(samples["window"]), size=count)
    # Of values and differences, where the cells see both, the latter.
    mean_F, scale_F = (buffer.numpy()[-config.num_features :] for buffer in (transform.mean, transform.scale))
    noise = mean_F + scale_F * generator.standard_normal(shape)
    if config.scaling != "fit":
        # In units of each sample's own, wherever the table or the window finds them.
        noise *= np.abs(np.diff(samples["window"][chosen], axis=1, prepend=0)).mean(axis=1, keepdims=True)
    start = samples["window"][chosen, :1]
    windows = noise if transform.kind == "standardize" and config.scaling == "fit" else start + np.cumsum(noise, axis=1)
    inputs: Inputs = {"window": windows.astype(np.float32)}
    if model.needs_time:
        spacing = generator.integers(1, 100_000, size=(count, 1))
        inputs["time_seconds"] = generator.integers(0, LAST_TIME, size=(count, 1)) + spacing * np.arange(config.window)
    if model.needs_series:
        inputs["series"] = generator.integers(-1, config.num_series + 1, size=(count, 1))
    return inputs


def golden_cases(
    model: RecurrentModel, inputs: Inputs, graph_names: list[str], *, rollout: int = 0
) -> dict[str, GoldenCase]:
    """Inputs and reference outputs for each graph, from inputs of the window graphs; rollouts are of that length."""
    reference = Reference(model, rollout=rollout)
    window = GoldenCase(inputs, reference.run(WINDOW, inputs))
    cases = dict.fromkeys(graph_names, window)
    if STEP in cases:
        stepped = reference.step_inputs(inputs)
        cases[STEP] = GoldenCase(stepped, reference.run(STEP, stepped))
    for graph in ROLLOUTS:
        if graph in cases:
            cases[graph] = GoldenCase(inputs, reference.run(graph, inputs))
    return cases


Value = TypeVar("Value")


def _picked(named: Mapping[str, Value], only: Sequence[str]) -> dict[str, Value]:
    return {name: named[name] for name in only}


def check(
    model: RecurrentModel,
    manifest: Manifest,
    graphs: Mapping[str, bytes],
    cases: Sequence[Mapping[str, GoldenCase]],
    *,
    only: Sequence[str] | None = None,
) -> Deviation:
    """Compare every graph, or `only` those, with the reference on every case.

    Raises ExportError; returns the worst deviation seen.
    """
    if only is not None:
        graphs, cases = _picked(graphs, only), [_picked(case, only) for case in cases]
    single = Reference(model, dtype=torch.float32, rollout=manifest.rollout)
    session = Session(graphs)
    worst = Deviation()
    for case in cases:
        kinds = {name: case[name] for name in (WINDOW, STEP, *ROLLOUTS) if name in case}
        try:
            golden.replay(manifest, kinds, single.run)
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
