"""Weights that take and give what was not standardised: the same numbers from fewer nodes."""

import msgspec
import numpy as np
import pytest
import torch

from export.artifact.golden import Inputs
from export.evaluate import Reference
from export.gate import Session
from export.lowering.folding import MOST_SCALES, folded
from export.lowering.source import source_of
from export.lowering.unrolled import unrolled
from tests.export.models import KINDS, TRANSFORMS, assert_within_limit, config, make_model, make_windows
from training.model import ModelConfig, RecurrentModel


def _model(shape: ModelConfig, *, scales: float) -> RecurrentModel:
    """Means that lie so many scales from zero."""
    model = make_model(shape)
    for mean, scale in (
        (model.transform.mean, model.transform.scale),
        (model.transform.target_mean, model.transform.target_scale),
    ):
        mean.copy_(scales * scale)
    return model


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("cell", KINDS)
def test_at_the_farthest_mean_that_is_folded_parity_holds(cell: str, transform: str) -> None:
    shape = msgspec.structs.replace(config(cell, transform=transform, num_features=2), calendar=("day",))
    model = _model(shape, scales=MOST_SCALES)
    source = source_of(model)
    assert folded(source).reads_raw
    assert folded(source).says_raw
    mean, scale = (buffer.numpy()[-2:] for buffer in (model.transform.mean, model.transform.scale))
    noise = make_windows(shape) / 10 - 10
    windows = (mean + scale * noise).astype(np.float32)
    if transform in ("difference", "value-and-difference"):
        windows = np.cumsum(windows, axis=1, dtype=np.float64).astype(np.float32)
    inputs: Inputs = {"window": windows, "time_seconds": np.arange(64 * 5).reshape(64, 5) * 3600}
    served = Session({"window": unrolled(source)[1].SerializeToString()}).run("window", inputs)
    assert_within_limit(served["next"], Reference(model).run("window", inputs)["next"], source.target_scale)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_folding_leaves_no_node_of_the_standardising(transform: str) -> None:
    shape = config(transform=transform)
    counts = [
        len(unrolled(source_of(_model(shape, scales=scales)))[1].graph.node)
        for scales in (MOST_SCALES, MOST_SCALES + 1)
    ]
    assert counts[1] - counts[0] == 4  # Sub and Div in front, Mul and Add behind


def test_a_mean_far_away_is_not_folded() -> None:
    source = source_of(_model(config(), scales=MOST_SCALES * 1.01))
    found = folded(source)
    assert (found.reads_raw, found.says_raw) == (False, False)
    assert found.weights == source.weights


def test_recent_errors_are_measured_in_the_transform_s_units() -> None:
    shape = msgspec.structs.replace(config(), intervals="normalized", levels=(0.9,))
    found = folded(source_of(_model(shape, scales=1.0)))
    assert (found.reads_raw, found.says_raw) == (True, False)


def test_the_source_stays_as_it_is() -> None:
    model = _model(config(), scales=1.0)
    source = source_of(model)
    before = {name: array.copy() for name, array in source.weights.items()}
    folded(source)
    for name, array in source.weights.items():
        np.testing.assert_array_equal(array, before[name])
    torch.testing.assert_close(model.state_dict()["head.point.bias"].numpy(), before["head.point.bias"])


def test_beside_a_linear_skip_nothing_is_folded() -> None:
    source = source_of(_model(msgspec.structs.replace(config(), linear_skip=True), scales=1.0))
    assert folded(source) is source
