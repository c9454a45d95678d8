"""Models with random weights and one window for them."""

import numpy as np
import torch

from training.data import WindowBatch
from training.model import ModelConfig, RecurrentModel

T, F, H = 6, 2, 5


def model_of(cell: str, **options: object) -> RecurrentModel:
    """A model in training mode with weights large enough to bend the sigmoids."""
    torch.manual_seed(0)
    settings = {"window": T, "num_features": F, "hidden_size": H, "num_layers": 1, "transform": "standardize"}
    model = RecurrentModel(ModelConfig(cell=cell, **{**settings, **options}))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


def window_for(model: RecurrentModel) -> WindowBatch:
    """Random values, hourly times, the first series."""
    rng = np.random.default_rng(0)
    config = model.config
    return WindowBatch(
        windows=rng.normal(size=(1, config.window, config.num_features)),
        targets=rng.normal(size=(1, config.horizon)),
        time_seconds=1_400_000_400 + 3600 * np.arange(config.window)[None],
        series=np.zeros((1, 1), dtype=np.int64),
    )
