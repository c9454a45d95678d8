import numpy as np
import pytest
import torch

from training.backtest import backtest
from training.baselines import Autoregression
from training.data import WindowSet
from training.fit import EpochMetrics
from training.model import ModelConfig, RecurrentModel
from training.pictures import backtest_picture, loss_picture

PNG = b"\x89PNG"


@pytest.fixture
def plus_two() -> RecurrentModel:
    """A model that always predicts two more than the last value."""
    config = ModelConfig(cell="rnn", window=2, num_features=1, hidden_size=1, num_layers=1, transform="difference")
    model = RecurrentModel(config)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.point.bias.fill_(2)
    return model


@pytest.fixture
def test_windows() -> WindowSet:
    values = np.array([0.0, 0, 1, 4, 5])
    return WindowSet(values=values[:, None], rows=np.array([2, 3, 4]), window=2)


def test_errors_are_those_of_the_definition(plus_two: RecurrentModel, test_windows: WindowSet) -> None:
    """Targets 1, 4, 5; ours 2, 3, 6; the last value 0, 1, 4; the straight line 0.5, 1.5, 4.5 too low by a half."""
    halfway = Autoregression(intercept=0.5, coefficients=(0.0, 1.0))
    result, predictions = backtest(plus_two, test_windows, halfway, target="x", source="here")
    assert [row.name for row in result.rows] == ["rnn", "last value", "AR(2)"]
    assert [row.rmse for row in result.rows] == pytest.approx([1, (11 / 3) ** 0.5, (6.75 / 3) ** 0.5])
    assert [row.mae for row in result.rows] == pytest.approx([1, 5 / 3, 3.5 / 3])
    assert result.skill_vs_last_value == pytest.approx(1 - (3 / 11) ** 0.5)
    assert result.protocol.num_targets == 3
    assert predictions.predictions["rnn"].tolist() == [2, 3, 6]
    assert backtest_picture(result, predictions).startswith(PNG)


def test_there_is_no_skill_against_a_last_value_that_is_always_right(plus_two: RecurrentModel) -> None:
    still = WindowSet(values=np.ones((4, 1)), rows=np.array([2, 3]), window=2)
    baseline = Autoregression(intercept=0.0, coefficients=(0.0, 1.0))
    result, _ = backtest(plus_two, still, baseline, target="x", source="here")
    assert result.skill_vs_last_value is None


def test_the_losses_make_a_picture() -> None:
    history = [
        EpochMetrics(
            epoch=epoch, train_loss=1 / epoch, validation_loss=0.0, validation_rmse=1, learning_rate=0.1, is_best=True
        )
        for epoch in (1, 2, 3)
    ]
    assert loss_picture(history).startswith(PNG)
