"""python -m tests.artifacts OUT_DIR: a small model repository for server tests, without fitting anything.

Needs torch, so tests run it in a process of its own; what it writes is read by tests that do without.

    demo         lstm, H 8, T 5, F 1, difference
    covariates   gru, H 6, 2 layers, T 4, F 3, standardize
    last         rnn, H 5, T 6, F 1, last-value: no step graph

Weights are uniform in ±0.3 from a fixed seed, so that every cell contracts and its output is near 0; the head's
bias and the transforms make predictions that no mistake would give.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from export import gate
from export.artifact import folder, golden
from export.artifact.folder import GOLDEN, WEIGHTS
from export.build import NUM_GOLDEN, describe, lower
from export.lowering.source import source_of
from training.model import ModelConfig, RecurrentModel

SEED = 7
WEIGHT_BOUND = 0.3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model: its shape, the names of its features, and what its transform would have learned."""

    name: str
    config: ModelConfig
    features: list[str]
    mean: list[float]
    scale: list[float]
    target_mean: float
    target_scale: float


RECIPES = (
    Recipe(
        name="demo",
        config=ModelConfig(cell="lstm", window=5, num_features=1, hidden_size=8, num_layers=1, transform="difference"),
        features=["value"],
        mean=[1.0],
        scale=[0.5],
        target_mean=1.0,
        target_scale=0.5,
    ),
    Recipe(
        name="covariates",
        config=ModelConfig(cell="gru", window=4, num_features=3, hidden_size=6, num_layers=2, transform="standardize"),
        features=["load", "temperature", "holiday"],
        mean=[100.0, 15.0, 0.25],
        scale=[20.0, 8.0, 0.5],
        target_mean=101.0,
        target_scale=21.0,
    ),
    Recipe(
        name="last",
        config=ModelConfig(cell="rnn", window=6, num_features=1, hidden_size=5, num_layers=1, transform="last-value"),
        features=["value"],
        mean=[-3.0],
        scale=[4.0],
        target_mean=2.0,
        target_scale=3.0,
    ),
)


def build_model(recipe: Recipe) -> RecurrentModel:
    """Bounded random weights, and the recipe's own transform."""
    generator = torch.Generator().manual_seed(SEED)
    model = RecurrentModel(recipe.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-WEIGHT_BOUND, WEIGHT_BOUND, generator=generator)
        transform = model.transform
        transform.mean.copy_(torch.tensor(recipe.mean))
        transform.scale.copy_(torch.tensor(recipe.scale))
        transform.target_mean.fill_(recipe.target_mean)
        transform.target_scale.fill_(recipe.target_scale)
    return model


def sample_windows(recipe: Recipe, generator: np.random.Generator) -> NDArray[np.float32]:
    """Windows [N, T, F] as such a series might give: walks around the mean of each feature."""
    shape = (NUM_GOLDEN, recipe.config.window, recipe.config.num_features)
    steps = generator.standard_normal(shape) * np.array(recipe.scale)
    return np.asarray(np.array(recipe.mean) + steps.cumsum(axis=1), np.float32)


def publish(recipe: Recipe, models: Path) -> Path:
    """Lower, gate and publish one model as version 1."""
    model = build_model(recipe)
    source = source_of(model)
    lowered = lower(source)
    graphs = {name: proto.SerializeToString() for name, (_, proto) in lowered.items()}
    manifest = describe(
        model, source, {name: graph for name, (graph, _) in lowered.items()}, recipe.name, recipe.features
    )
    cases = gate.golden_cases(model, {"window": sample_windows(recipe, np.random.default_rng(SEED))}, list(graphs))
    gate.check(model, manifest, graphs, [cases])
    files = {lowered[name][0].file: data for name, data in graphs.items()} | {
        GOLDEN: golden.encode(cases),
        WEIGHTS: safetensors.torch.save(model.state_dict()),
    }
    return folder.publish(models, manifest, files)


def main() -> None:
    """Write the repository."""
    models = Path(sys.argv[1])
    for recipe in RECIPES:
        publish(recipe, models)


if __name__ == "__main__":
    main()
