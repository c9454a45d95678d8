"""Intervals by recent errors where rounding is hardest: long windows, high levels, one value far off the others."""

import numpy as np
import pytest
import torch

from export.artifact.golden import Inputs, compare
from export.build import describe
from export.evaluate import Reference
from tests.export.models import lower_all, make_model
from training.model import ModelConfig, RecurrentModel
from training.scaling import SeriesScaling

WINDOW = 48
AMPLITUDE = 50.0


def make(transform: str, scaling: str, level: float) -> RecurrentModel:
    """As a fit on a series of this level and amplitude would leave it: small errors, an interval of three of them."""
    shape = ModelConfig(
        cell="lstm", window=WINDOW, num_features=1, hidden_size=8, num_layers=1, transform=transform, scaling=scaling,
        num_series=int(scaling == "series"), intervals="normalized", levels=(0.9,),
    )  # fmt: skip
    model = make_model(shape, bound=0.3)
    is_series = isinstance(model.scaling, SeriesScaling)
    unit, zero = (1.0, 0.0) if is_series else (AMPLITUDE, level)
    with torch.no_grad():
        if isinstance(model.scaling, SeriesScaling):
            model.scaling.zero.fill_(level)
            model.scaling.unit.fill_(AMPLITUDE)
        model.transform.mean.fill_(0.0 if transform == "difference" else zero)
        model.transform.scale.fill_(unit)
        model.transform.target_mean.fill_(zero if transform == "standardize" else 0.0)
        model.transform.target_scale.fill_(unit / 2)
        model.head.margin.fill_(3)
        assert model.recent_error is not None
        model.recent_error.usual.fill_(0.4)
    return model


@pytest.mark.parametrize("off", [0.0, 1e2, 1e3])
@pytest.mark.parametrize("level", [0.0, 1e4])
@pytest.mark.parametrize("scaling", ["fit", "series"])
@pytest.mark.parametrize("transform", ["standardize", "difference", "value-and-difference"])
def test_both_graphs_keep_the_limit(transform: str, scaling: str, level: float, off: float) -> None:
    model = make(transform, scaling, level)
    lowered = lower_all(model)
    manifest = describe(model, lowered.source, dict(lowered.graphs), "demo", ["value"])
    waves = np.sin(np.arange(200)[:, None] * 0.3 + np.arange(WINDOW) * 0.5)
    windows = level + AMPLITUDE * (waves + 0.1 * np.random.default_rng(0).standard_normal((200, WINDOW)))
    windows[:, WINDOW // 2] += off * AMPLITUDE
    inputs: Inputs = {"window": windows[:, :, None].astype(np.float32)}
    if scaling == "series":
        inputs["series"] = np.zeros((200, 1), np.int64)
    reference = Reference(model)
    for graph, each in (("window", inputs), ("step", reference.step_inputs(inputs))):
        served, expected = lowered.session.run(graph, each), reference.run(graph, each)
        for tensor in manifest.graphs[graph].outputs:
            found = compare(served[tensor.name], expected, tensor, manifest, graph)
            assert found.share_of_limit <= 1, (graph, tensor.name, found)


def test_the_limit_of_an_end_counts_its_reach_and_that_of_a_prediction_does_not() -> None:
    model = make("difference", "fit", 0.0)
    lowered = lower_all(model)
    manifest = describe(model, lowered.source, dict(lowered.graphs), "demo", ["value"])
    tensors = {tensor.name: tensor for tensor in manifest.graphs["window"].outputs}
    expected = {"next": np.zeros((1, 1)), "upper": np.full((1, 1, 1), 100 * AMPLITUDE)}
    for name, limit in (("next", 1e-5 * 25), ("upper", 1e-5 * (25 + 5000) + 2 * 2.0**-11)):
        for share in (0.9, 1.1):
            served = expected[name] + share * limit
            found = compare(served, expected, tensors[name], manifest, "window")
            assert found.share_of_limit == pytest.approx(share, rel=1e-6)
