"""darts' side of the comparison; runs in a virtual environment of its own, which has none of our code.

    python darts_peer.py REQUEST.json ANSWER.json

The request says what to fit (benchmarks/accuracy/peer.py: Request), the answer holds the predictions.
"""

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from darts import TimeSeries  # type: ignore[import-not-found]
from darts.models import BlockRNNModel, RNNModel  # type: ignore[import-not-found]
from pytorch_lightning.callbacks import Callback  # type: ignore[import-not-found]

WARM_STEPS = 20


class StepClock(Callback):  # type: ignore[misc]
    """When each training step ended; the time between two epochs counts as none."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_epoch_start(self, *_arguments: object) -> None:
        """Begin a step."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, *_arguments: object) -> None:
        """Count the step."""
        now = time.perf_counter()
        self.seconds.append(now - self.started)
        self.started = now

    def seconds_per_step(self) -> float:
        """The mean, the first steps left out."""
        return float(np.mean(self.seconds[WARM_STEPS:]))


def new_model(request: dict[str, Any], clock: StepClock, folder: str) -> Any:
    """BlockRNNModel reads a window; RNNModel is fed its own target, step by step, over the window and one more."""
    settings = dict(request["settings"])
    common = {
        "model": "LSTM",
        "input_chunk_length": request["window"],
        "random_state": request["seed"],
        "work_dir": folder,
        "model_name": "model",
        "save_checkpoints": True,
        "force_reset": True,
        "pl_trainer_kwargs": {
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            # A checkpoint with a class of ours in it would not be read back.
            "callbacks": [clock] if request["only_time"] else [],
            "gradient_clip_val": settings.pop("gradient_clip_val"),
        },
        **settings,
    }
    if request["model"] == "BlockRNN":
        return BlockRNNModel(output_chunk_length=1, **common)
    return RNNModel(training_length=request["window"] + 1, **common)


def main() -> None:
    """Fit, predict every value of the test part one step ahead, write the answer."""
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("darts").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    values = np.asarray(request["values"])
    num_fit, num_validation, window = request["num_fit"], request["num_validation"], request["window"]
    mean, scale = values[:num_fit].mean(), values[:num_fit].std()
    series = TimeSeries.from_values(((values - mean) / scale).astype(np.float32))
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        model = new_model(request, clock, folder)
        started = time.perf_counter()
        if request["only_time"]:
            model.fit(series[:num_fit])
            predictions = []
        else:
            validation = series[num_fit - window - 1 : num_fit + num_validation]
            model.fit(series[:num_fit], val_series=validation)
            model = type(model).load_from_checkpoint("model", work_dir=folder, best=True)
            found = model.historical_forecasts(
                series,
                start=num_fit + num_validation,
                start_format="position",
                forecast_horizon=1,
                retrain=False,
                last_points_only=True,
            )
            predictions = (found.values()[:, 0].astype(np.float64) * scale + mean).tolist()
            assert len(predictions) == len(values) - num_fit - num_validation, len(predictions)
    answer = {
        "predictions": predictions,
        "seconds": time.perf_counter() - started,
        "seconds_per_step": clock.seconds_per_step() if request["only_time"] else None,
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
