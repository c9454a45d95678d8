"""neuralforecast's side of the comparison; runs in a virtual environment of its own, which has none of our code.

    python neuralforecast_peer.py REQUEST.json ANSWER.json

The request says what to fit (benchmarks/accuracy/peer.py: Request), the answer holds the predictions.
"""

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import torch
from neuralforecast import NeuralForecast  # type: ignore[import-not-found]
from neuralforecast.losses.pytorch import MSE, HuberLoss  # type: ignore[import-not-found]
from neuralforecast.models import GRU, LSTM  # type: ignore[import-not-found]
from pytorch_lightning.callbacks import Callback  # type: ignore[import-not-found]

MODELS = {"LSTM": LSTM, "GRU": GRU}
LOSSES = {"MSE": MSE, "Huber": HuberLoss}
WARM_STEPS = 20


class StepClock(Callback):  # type: ignore[misc]
    """When each training step ended. The library copies its callbacks; all copies write to one list."""

    ends: ClassVar[list[float]] = []

    def on_train_batch_end(self, *_arguments: object) -> None:
        """Remember the time."""
        self.ends.append(time.perf_counter())

    def seconds_per_step(self) -> float:
        """The mean, the first steps left out."""
        ends = self.ends[WARM_STEPS:]
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def main() -> None:
    """Fit, predict every value of the test part one step ahead, write the answer."""
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    values = np.asarray(request["values"])
    num_fit, num_validation = request["num_fit"], request["num_validation"]
    mean, scale = values[:num_fit].mean(), values[:num_fit].std()
    settings = dict(request["settings"])
    loss = settings.pop("loss")
    clock = StepClock()
    model = MODELS[request["model"]](
        h=1,
        input_size=request["window"],
        loss=LOSSES[loss](),
        random_seed=request["seed"],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[clock],
        **settings,
    )
    # The library counts rows; dates of equal distance stand for them.
    frame = pd.DataFrame(
        {
            "unique_id": "series",
            "ds": pd.date_range("2000-01-01", periods=len(values), freq="h"),
            "y": (values - mean) / scale,
        }
    )
    num_test = len(values) - num_fit - num_validation
    forecaster = NeuralForecast(models=[model], freq="h")
    started = time.perf_counter()
    if request["only_time"]:
        forecaster.fit(frame[:num_fit])
        predictions = []
    else:
        found = forecaster.cross_validation(
            frame, val_size=num_validation, test_size=num_test, n_windows=None, step_size=1, refit=False
        )
        predictions = (found[request["model"]].to_numpy() * scale + mean).tolist()
        assert len(predictions) == num_test, (len(predictions), num_test)
    answer = {
        "predictions": predictions,
        "seconds": time.perf_counter() - started,
        "seconds_per_step": clock.seconds_per_step(),
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
