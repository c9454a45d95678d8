"""Models as a fit might leave them, without one: bounded weights, scales of a plausible series."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from export.artifact.golden import Inputs
from export.artifact.limits import Tolerance, limit
from export.artifact.manifest import Graph
from export.build import lower
from export.gate import Session
from export.lowering.source import Source, source_of
from training.model import ModelConfig, RecurrentModel
from training.scaling import SeriesScaling

KINDS = ("rnn", "lstm", "gru", "gru-reset-after", "nn.lstm", "nn.gru")
TRANSFORMS = ("standardize", "difference", "value-and-difference", "last-value")
HIDDEN = 8
LEVEL = 100.0
SPREAD = 10.0


def config(
    cell: str = "lstm",
    *,
    transform: str = "difference",
    window: int = 5,
    num_features: int = 1,
    num_layers: int = 1,
    hidden_size: int = HIDDEN,
) -> ModelConfig:
    return ModelConfig(
        cell=cell,
        window=window,
        num_features=num_features,
        hidden_size=hidden_size,
        num_layers=num_layers,
        transform=transform,
    )


def make_model(shape: ModelConfig, *, bound: float = 0.5, seed: int = 0) -> RecurrentModel:
    """Weights uniform in ±bound: at H = 8 and 0.5 no cell is chaotic, and every gate works away from its ends."""
    generator = torch.Generator().manual_seed(seed)
    model = RecurrentModel(shape)
    per_feature = torch.arange(shape.num_features)
    level = LEVEL if shape.transform == "standardize" else 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
        if model.linear_skip is not None:
            # As least squares leave them: all together weigh about one value.
            model.linear_skip.weight.div_(model.linear_skip.weight.shape[1])
        unit = SPREAD if shape.scaling == "fit" else 1.0
        level = level if shape.scaling == "fit" else 0.25
        per_channel = per_feature.repeat(model.transform.channels_per_feature)
        is_value = torch.arange(len(per_channel)) < shape.num_features
        is_level = is_value if shape.transform.startswith("value-") and unit > 1 else torch.zeros_like(is_value)
        model.transform.mean.copy_(torch.where(is_level, LEVEL, level) + per_channel)
        model.transform.scale.copy_(unit * (1 + per_channel / 4))
        model.transform.target_mean.copy_(level + 0.25 + torch.arange(shape.horizon) / 8)
        model.transform.target_scale.copy_(0.75 * unit * (1 + torch.arange(shape.horizon) / 4))
        if isinstance(model.scaling, SeriesScaling):
            model.scaling.zero.uniform_(LEVEL - SPREAD, LEVEL + SPREAD, generator=generator)
            model.scaling.unit.uniform_(SPREAD / 2, SPREAD * 2, generator=generator)
        if shape.intervals != "none":
            model.head.margin.uniform_(0.5, 2, generator=generator)
        if model.recent_error is not None:
            model.recent_error.usual.uniform_(0.5, 2, generator=generator)
    return model.eval()


def make_windows(shape: ModelConfig, count: int = 64, *, seed: int = 0) -> NDArray[np.float32]:
    """Noise around the level, [count, T, F]."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((count, shape.window, shape.num_features))
    return (LEVEL + SPREAD * noise).astype(np.float32)


def make_inputs(shape: ModelConfig, count: int = 64, *, seed: int = 0) -> Inputs:
    """All that a window graph of this shape takes."""
    generator = np.random.default_rng(seed)
    inputs: Inputs = {"window": make_windows(shape, count, seed=seed)}
    if shape.calendar:
        first = generator.integers(0, 2**32, size=(count, 1))
        inputs["time_seconds"] = first + 1800 * np.arange(shape.window)
    if shape.num_series:
        inputs["series"] = generator.integers(-1, shape.num_series + 1, size=(count, 1))
    return inputs


@dataclass(frozen=True)
class Lowered:
    """A model in all the forms that a test compares."""

    model: RecurrentModel
    source: Source
    graphs: Mapping[str, Graph]
    files: Mapping[str, bytes]
    session: Session


def lower_all(model: RecurrentModel) -> Lowered:
    source = source_of(model)
    lowered = lower(source)
    files = {name: proto.SerializeToString() for name, (_, proto) in lowered.items()}
    return Lowered(model, source, {name: graph for name, (graph, _) in lowered.items()}, files, Session(files))


def assert_within_limit(
    served: NDArray[np.floating], expected: NDArray[np.float64], scale: float | NDArray[np.float64]
) -> None:
    """Hold |Δ| ≤ 1e-5·scale + 2 ulp32, elementwise."""
    assert served.shape == expected.shape
    error = np.abs(served.astype(np.float64) - expected)
    share = error / limit(expected, scale, Tolerance())
    assert share.max() <= 1.0, f"off by {error.max():.3g}, {share.max():.3g} times the limit"
