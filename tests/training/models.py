"""Models whose predictions can be worked out in one's head."""

from typing import Any

import torch

from training.model import ModelConfig, RecurrentModel


def steady(*steps: float, window: int = 2, num_features: int = 1, **options: Any) -> RecurrentModel:
    """Predicts the last value plus each of `steps`, one for every horizon, whatever came before."""
    config = ModelConfig(
        cell="rnn",
        window=window,
        num_features=num_features,
        hidden_size=2,
        num_layers=1,
        transform="difference",
        horizon=len(steps),
        **options,
    )
    model = RecurrentModel(config)
    with torch.no_grad():
        model.head.point.weight.zero_()
        model.head.point.bias.copy_(torch.tensor(steps))
    return model.eval()


def random_model(*, seed: int = 0, **options: Any) -> RecurrentModel:
    """A small GRU as it is drawn."""
    defaults: dict[str, Any] = {
        "cell": "gru",
        "window": 4,
        "num_features": 1,
        "hidden_size": 5,
        "num_layers": 1,
        "transform": "difference",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RecurrentModel(ModelConfig(**defaults | options)).eval()
