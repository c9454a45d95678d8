"""Every cell, depth, transform, window and number of features through onnxruntime, against the float64 reference."""

from itertools import product

import numpy as np
import pytest

from export.artifact.golden import BATCHES
from export.evaluate import Reference
from tests.export.models import KINDS, TRANSFORMS, Lowered, assert_within_limit, config, make_windows


def _cases(transforms: tuple[str, ...]) -> list[object]:
    return [
        pytest.param(
            config(cell, transform=transform, window=window, num_features=num_features, num_layers=num_layers),
            id=f"{cell}-{num_layers}-{transform}-T{window}-F{num_features}",
            marks=[pytest.mark.slow] if window == 48 else [],
        )
        for cell, num_layers, transform, window, num_features in product(KINDS, (1, 2), transforms, (1, 5, 48), (1, 3))
    ]


@pytest.mark.parametrize("lowered", _cases(TRANSFORMS), indirect=True)
def test_every_window_graph_computes_what_the_reference_computes(lowered: Lowered) -> None:
    windows = make_windows(lowered.model.config)
    expected = Reference(lowered.model).window(windows)
    assert expected.std() > 1e-3 * lowered.source.target_scale, "predictions all alike would prove nothing"
    for graph, batch in product(set(lowered.graphs) - {"step"}, BATCHES):
        served = lowered.session.run(graph, {"window": windows[:batch]})
        assert list(served) == ["next"]
        assert served["next"].dtype == np.float32
        assert_within_limit(served["next"], expected[:batch], lowered.source.target_scale)


@pytest.mark.parametrize("lowered", _cases(("standardize", "difference")), indirect=True)
def test_stepping_from_zeros_computes_what_the_window_graph_computes(lowered: Lowered) -> None:
    windows = make_windows(lowered.model.config)
    expected = Reference(lowered.model).window(windows)
    for batch in BATCHES:
        stepped = _step_through(lowered, windows[:batch])
        at_once = lowered.session.run("window", {"window": windows[:batch]})["next"]
        assert_within_limit(stepped, expected[:batch], lowered.source.target_scale)
        assert_within_limit(stepped, at_once.astype(np.float64), lowered.source.target_scale)


def _step_through(lowered: Lowered, window_BTF: np.ndarray) -> np.ndarray:
    """The step graph's last prediction, its own final state fed back at every value."""
    state = {
        tensor.name: np.zeros((len(window_BTF), *(size for size in tensor.shape[1:] if size != "batch")), np.float32)
        for tensor in lowered.graphs["step"].inputs
        if tensor.name != "value"
    }
    for value_BF in np.moveaxis(window_BTF, 1, 0):
        outputs = lowered.session.run("step", {"value": np.ascontiguousarray(value_BF), **state})
        assert set(outputs) == {"next"} | {name.replace("initial_", "final_") for name in state}
        state = {name: outputs[name.replace("initial_", "final_")] for name in state}
    return outputs["next"]
