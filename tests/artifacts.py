"""python -m tests.artifacts OUT_DIR [float16]: a small model repository for server tests, without fitting anything.

Needs torch, so tests run it in a process of its own; what it writes is read by tests that do without.

    demo         lstm, H 8, T 5, F 1, difference; rollouts of 6 values
    covariates   gru, H 6, 2 layers, T 4, F 3, standardize
    last         rnn, H 5, T 6, F 1, last-value: no step graph; 4 values by sliding
    demand       gru, H 6, 2 residual layers of 2 cells, T 6, F 2, difference; all that takes more than a window:
                 3 values ahead, calendar, scaled by series, normalized intervals
    windowed     lstm, H 5, T 5, F 1, standardize, scaled by the window, with a linear skip: no step graph; 2 values
                 ahead, conformal

Weights are uniform in ±0.3 from a fixed seed, so that every cell contracts and its output is near 0; the head's
bias and the transforms make predictions that no mistake would give.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import safetensors.torch
import torch

from export import gate
from export.artifact import folder, golden
from export.artifact.folder import GOLDEN, SERIES, WEIGHTS
from export.artifact.golden import Inputs
from export.artifact.manifest import Precision
from export.build import NUM_GOLDEN, describe, lower, roll
from export.lowering.source import source_of
from training.model import ModelConfig, RecurrentModel
from training.scaling import SeriesScaling

SEED = 7
WEIGHT_BOUND = 0.3
# 2024-01-01T00:00:00Z.
FIRST_TIME = 1_704_067_200


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One model: its shape, the names of its features, and what its transform and its scaling would have learned."""

    name: str
    config: ModelConfig
    features: list[str]
    mean: list[float]
    scale: list[float]
    target_mean: list[float]
    target_scale: list[float]
    # Zero and unit of each feature by the id of a series; the default's are the last.
    series: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    # Values in one run, if more than one.
    rollout: int = 0


RECIPES = (
    Recipe(
        name="demo",
        config=ModelConfig(cell="lstm", window=5, num_features=1, hidden_size=8, num_layers=1, transform="difference"),
        features=["value"],
        mean=[1.0],
        scale=[0.5],
        target_mean=[1.0],
        target_scale=[0.5],
        rollout=6,
    ),
    Recipe(
        name="covariates",
        config=ModelConfig(cell="gru", window=4, num_features=3, hidden_size=6, num_layers=2, transform="standardize"),
        features=["load", "temperature", "holiday"],
        mean=[100.0, 15.0, 0.25],
        scale=[20.0, 8.0, 0.5],
        target_mean=[101.0],
        target_scale=[21.0],
    ),
    Recipe(
        name="last",
        config=ModelConfig(cell="rnn", window=6, num_features=1, hidden_size=5, num_layers=1, transform="last-value"),
        features=["value"],
        mean=[-3.0],
        scale=[4.0],
        target_mean=[2.0],
        target_scale=[3.0],
        rollout=4,
    ),
    Recipe(
        name="demand",
        config=ModelConfig(
            cell="gru",
            window=6,
            num_features=2,
            hidden_size=6,
            num_layers=2,
            transform="difference",
            transition_depth=2,
            residual=True,
            output_depth=2,
            horizon=3,
            calendar=("day", "week"),
            scaling="series",
            num_series=3,
            intervals="normalized",
            levels=(0.5, 0.9),
        ),
        features=["sales", "price"],
        mean=[0.1, 0.0],
        scale=[0.5, 0.25],
        target_mean=[0.1, 0.3, 0.4],
        target_scale=[0.5, 0.75, 1.0],
        series={
            "shop-a": ([100.0, 2.0], [10.0, 0.5]),
            "shop-b": ([5000.0, 20.0], [700.0, 4.0]),
            "Café ☕": ([-3.0, 0.5], [0.25, 0.125]),
            "": ([50.0, 1.0], [5.0, 0.25]),
        },
    ),
    Recipe(
        name="windowed",
        config=ModelConfig(
            cell="lstm",
            window=5,
            num_features=1,
            hidden_size=5,
            num_layers=1,
            transform="standardize",
            horizon=2,
            scaling="window",
            intervals="conformal",
            levels=(0.9,),
            linear_skip=True,
        ),
        features=["value"],
        mean=[0.25],
        scale=[1.5],
        target_mean=[0.5, 0.75],
        target_scale=[1.0, 1.25],
    ),
)


def build_model(recipe: Recipe) -> RecurrentModel:
    """Bounded random weights, and the recipe's own transform, table and margins."""
    generator = torch.Generator().manual_seed(SEED)
    model = RecurrentModel(recipe.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-WEIGHT_BOUND, WEIGHT_BOUND, generator=generator)
        transform = model.transform
        transform.mean.copy_(torch.tensor(recipe.mean))
        transform.scale.copy_(torch.tensor(recipe.scale))
        transform.target_mean.copy_(torch.tensor(recipe.target_mean))
        transform.target_scale.copy_(torch.tensor(recipe.target_scale))
        if isinstance(model.scaling, SeriesScaling):
            zeros, units = (torch.tensor(rows) for rows in zip(*recipe.series.values(), strict=True))
            model.scaling.fill(zeros[:-1], units[:-1], zeros[-1], units[-1])
        if recipe.config.intervals != "none":
            model.head.margin.uniform_(0.5, 2.0, generator=generator)
        if model.recent_error is not None:
            model.recent_error.usual.fill_(0.75)
    return model


def sample_inputs(recipe: Recipe, generator: np.random.Generator) -> Inputs:
    """What such a series might give: walks from the mean of each feature, half an hour apart, of any series."""
    config = recipe.config
    shape = (NUM_GOLDEN, config.window, config.num_features)
    walks = np.array(recipe.mean) + (generator.standard_normal(shape) * np.array(recipe.scale)).cumsum(axis=1)
    inputs: Inputs = {}
    if config.calendar:
        first = FIRST_TIME + generator.integers(0, 10**8, (NUM_GOLDEN, 1))
        inputs["time_seconds"] = first + 1800 * np.arange(config.window)
    if recipe.series:
        rows = generator.integers(0, len(recipe.series), NUM_GOLDEN)
        zeros, units = (np.array(each)[rows][:, None] for each in zip(*recipe.series.values(), strict=True))
        walks = zeros + units * walks
        inputs["series"] = rows[:, None]
    return inputs | {"window": np.asarray(walks, np.float32)}


def publish(recipe: Recipe, models: Path, precision: Precision) -> Path:
    """Lower, gate and publish one model as version 1."""
    model = build_model(recipe)
    source = source_of(model)
    lowered = lower(source, precision) | (roll(source, recipe.rollout)[0] if recipe.rollout else {})
    graphs = {name: proto.SerializeToString() for name, (_, proto) in lowered.items()}
    described = {name: graph for name, (graph, _) in lowered.items()}
    manifest = msgspec.structs.replace(
        describe(model, source, described, recipe.name, recipe.features), rollout=recipe.rollout
    )
    inputs = sample_inputs(recipe, np.random.default_rng(SEED))
    cases = gate.golden_cases(model, inputs, list(graphs), rollout=recipe.rollout)
    gate.check(model, manifest, graphs, [cases])
    files = {lowered[name][0].file: data for name, data in graphs.items()} | {
        GOLDEN: golden.encode(cases),
        WEIGHTS: safetensors.torch.save(model.state_dict()),
    }
    if recipe.series:
        files[SERIES] = json.dumps(list(recipe.series)[:-1]).encode()
    return folder.publish(models, manifest, files)


def main() -> None:
    """Write the repository."""
    models = Path(sys.argv[1])
    for recipe in RECIPES:
        publish(recipe, models, "float16" if "float16" in sys.argv[2:] else "float32")


if __name__ == "__main__":
    main()
