"""Seconds for an epoch of the same model, one thread: ours, neuralforecast's and darts'.

One LSTM layer and a linear layer on its last output; the same hidden size, window and batch; Huber or squared loss.
What is counted is the steps of an epoch, fetching their batches included, without the library's start-up, validation
or checkpoints; ours includes the validation that its epochs end with.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.accuracy.libraries import PEERS
from benchmarks.accuracy.peer import ask, of_series
from benchmarks.accuracy.series import Series
from training.build import new_model
from training.config import FitOptions
from training.data import DataOptions, SplitOptions, load, split_windows
from training.fit import Fit
from training.model import ModelConfig

HIDDEN_SIZE = 32
BATCH_SIZE = 64
ROUNDS = 3
OUR_EPOCHS = 4
PEER_STEPS = 300


def seconds_per_epoch(
    series: Series, window: int, pythons: dict[str, Path], say: Callable[[str], None]
) -> dict[str, float]:
    """By name, the median of ROUNDS rounds in which all take turns."""
    num_steps = math.ceil((series.num_fit - window) / BATCH_SIZE)
    found: dict[str, list[float]] = {}
    for turn in range(ROUNDS):
        say(f"time an epoch, window {window}, round {turn + 1} of {ROUNDS}")
        found.setdefault("ours", []).append(_ours(series, window))
        for peer in PEERS:
            request = of_series(
                series,
                window=window,
                seed=0,
                model=peer.timed,
                settings=peer.same_model(HIDDEN_SIZE, BATCH_SIZE, PEER_STEPS),
                only_time=True,
            )
            answer = ask(peer, pythons[peer.name], request)
            found.setdefault(f"{peer.name} {peer.timed}", []).append(answer["seconds_per_step"] * num_steps)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def _ours(series: Series, window: int) -> float:
    """The median epoch after a first one."""
    torch.set_num_threads(1)
    config = ModelConfig(
        cell="lstm", window=window, num_features=1, hidden_size=HIDDEN_SIZE, num_layers=1, transform="standardize"
    )
    split = SplitOptions(validation=series.num_validation, test=series.num_test)
    seconds = []
    with load(DataOptions(source=str(series.path))) as dataset:
        parts = split_windows(dataset, split, window)
        options = FitOptions(epochs=OUR_EPOCHS + 1, batch_size=BATCH_SIZE)
        fit = Fit(new_model(config, parts.fit, seed=0), parts, options, seed=0)
        while not fit.is_finished:
            started = time.perf_counter()
            fit.run_epoch()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])
