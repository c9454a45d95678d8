"""The libraries of the comparison and how they are set: their own defaults, but for what is stated here."""

import math
from typing import Any

from benchmarks.accuracy.peer import Peer


def _neuralforecast_same(hidden_size: int, batch_size: int, num_steps: int) -> dict[str, Any]:
    return {
        "loss": "Huber",
        "max_steps": num_steps,
        "encoder_n_layers": 1,
        "encoder_hidden_size": hidden_size,
        "decoder_layers": 1,
        "decoder_hidden_size": hidden_size,
        "windows_batch_size": batch_size,
        "scaler_type": "identity",
    }


def _darts_same(hidden_size: int, batch_size: int, num_steps: int) -> dict[str, Any]:
    # The timing needs so many steps; the library counts epochs. Of nyc_taxi's windows 5400 / batch make one.
    return {
        "n_epochs": math.ceil(num_steps * batch_size / 5400),
        "batch_size": batch_size,
        "hidden_dim": hidden_size,
        "gradient_clip_val": 1.0,
    }


NEURALFORECAST = Peer(
    name="neuralforecast",
    version="3.3.0",
    models=("LSTM", "GRU"),
    timed="LSTM",
    # The steps are the library's default.
    settings={"loss": "MSE", "max_steps": 1000, "val_check_steps": 50, "early_stop_patience_steps": 10},
    # Of each window; the library's default is "robust", by median and interquartile range.
    choices=({}, {"scaler_type": "standard"}, {"scaler_type": "identity"}),
    same_model=_neuralforecast_same,
)

DARTS = Peer(
    name="darts",
    version="0.48.1",
    models=("BlockRNN",),
    timed="BlockRNN",
    settings={
        # At least the steps that ours takes at window 5 on the shortest series; the best epoch is kept.
        "n_epochs": 68,
        "batch_size": 64,
        "hidden_dim": 32,
        "optimizer_kwargs": {"lr": 3e-3},
        "gradient_clip_val": 1.0,
    },
    choices=({}, {"use_reversible_instance_norm": True}),
    same_model=_darts_same,
)

PEERS = (NEURALFORECAST, DARTS)
