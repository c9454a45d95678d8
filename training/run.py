"""A run's folder: what lies in it, and reading one back.

config.json            what was asked for (RunConfig)
weights.safetensors    the best weights (the RecurrentModel's state_dict)
metrics.jsonl          one line for each epoch (EpochMetrics)
samples.npz            `window` float32 [≤ 256, T, F] of validation and test; `time_seconds` int64 [N, T] and `series`
                       int64 [N, 1] where the model takes them
series.json            ids of the series, in the order of their numbers, where the model takes those
checkpoint.pt          where the fit stands, to go on from
report.json, .png      how well the model did; written last, so its presence means the run is finished
loss.png               losses over the epochs
explain.png            what the model does with a window, by `python -m training explain`
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray

from training.backtest import Report
from training.config import RunConfig
from training.errors import RunError
from training.files import is_unfinished, remove_unfinished, write_atomically
from training.fit import EpochMetrics, Fit
from training.model import RecurrentModel

__all__ = ["Run", "RunError", "RunFolder", "best_epoch", "load_run"]

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
SAMPLES = "samples.npz"
SERIES = "series.json"
CHECKPOINT = "checkpoint.pt"
BACKTEST = "report.json"
BACKTEST_PICTURE = "report.png"
LOSS_PICTURE = "loss.png"
EXPLAIN_PICTURE = "explain.png"
FILES = (BACKTEST, CONFIG, WEIGHTS, METRICS, SAMPLES, SERIES, CHECKPOINT, BACKTEST_PICTURE, LOSS_PICTURE)

# `window` float32 [N, T, F], and int64 `time_seconds` [N, T] and `series` [N, 1] where the model takes them.
Samples = dict[str, NDArray[Any]]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: `model` is in float32 and evaluation mode, `samples` are inputs of it by name, in raw units."""

    path: Path
    config: RunConfig
    model: RecurrentModel
    samples: Samples
    series_ids: list[str]
    backtest: dict[str, Any]


def load_run(path: Path) -> Run:
    """Read a finished run. Raises RunError naming the file that is missing, broken or does not fit."""
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give the folder that a fit wrote with --out")
    config = _decode(path / CONFIG, RunConfig)
    _decode(path / BACKTEST, Report)
    return Run(
        path=path,
        config=config,
        model=_load_model(path / WEIGHTS, config),
        samples=_load_samples(path / SAMPLES, config),
        series_ids=_decode(path / SERIES, list[str]) if config.model.num_series else [],
        backtest=msgspec.json.decode(_read(path / BACKTEST)),
    )


def best_epoch(path: Path) -> int:
    """The epoch whose weights a run keeps. Raises RunError if its metrics are missing or broken."""
    try:
        history = msgspec.json.Decoder(EpochMetrics).decode_lines(_read(path / METRICS))
    except msgspec.MsgspecError as error:
        raise RunError(f"{path / METRICS} is broken: {error}") from error
    kept = [metrics.epoch for metrics in history if metrics.is_best]
    if not kept:
        raise RunError(f"{path / METRICS} is broken: it marks no epoch as the best")
    return kept[-1]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); is the run finished?") from error


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(_read(path), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is broken: {error}") from error


def _load_model(path: Path, config: RunConfig) -> RecurrentModel:
    model = RecurrentModel(config.model)
    try:
        model.load_state_dict(safetensors.torch.load(_read(path)))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise RunError(f"{path} is broken or does not fit {CONFIG}: {' '.join(str(error).split())}") from error
    return model.eval()


def _load_samples(path: Path, config: RunConfig) -> Samples:
    model = config.model
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"window": ("float32", (model.window, model.num_features))}
    if model.calendar:
        expected["time_seconds"] = ("int64", (model.window,))
    if model.num_series:
        expected["series"] = ("int64", (1,))
    try:
        with np.load(BytesIO(_read(path)), allow_pickle=False) as archive:
            samples: Samples = {name: archive[name] for name in expected}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is broken: {error}") from error
    for name, (dtype, shape) in expected.items():
        array = samples[name]
        if array.dtype != dtype or array.ndim < 2 or array.shape[1:] != shape or not len(array):
            raise RunError(
                f"{path}, {name!r}, holds {array.dtype} {array.shape}; it must be {dtype} [N, {str(list(shape))[1:]}"
            )
    if len({len(array) for array in samples.values()}) > 1:
        raise RunError(f"{path} holds arrays of different lengths")
    return samples


class RunFolder:
    """Writes a run's files, each as a whole, and reads back what a resumed fit needs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_run(self) -> bool:
        """Whether a fit was started here."""
        return (self.path / CONFIG).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether a fit was started here and came to its end."""
        return self.is_run and (self.path / BACKTEST).is_file()

    def prepare(self, *, resume: bool, force: bool) -> None:
        """Make the folder ready for a fit. Raises RunError where that would lose something."""
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--out is {self.path}, which is a file; it must be a folder")
        if resume:
            if not self.is_run:
                raise RunError(f"--out is {self.path}, which holds no fit to resume; leave out --resume to start one")
            if self.is_finished:
                raise RunError(f"--out is {self.path}, which holds a finished run; there is nothing to resume")
        elif self.is_run:
            if not force:
                state = "a finished run" if self.is_finished else "an unfinished fit (--resume goes on with it)"
                raise RunError(f"--out is {self.path}, which holds {state}; --force replaces it")
            for name in (*FILES, EXPLAIN_PICTURE):
                (self.path / name).unlink(missing_ok=True)
        elif self.path.is_dir() and not all(is_unfinished(path) for path in self.path.iterdir()):
            raise RunError(f"--out is {self.path}, which holds something that is no run; choose an empty folder")
        self.path.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            remove_unfinished(self.path / name)

    def write_config(self, config: RunConfig) -> None:
        """Keep what was asked for."""
        write_atomically(self.path / CONFIG, _pretty(config))

    def check_same_config(self, config: RunConfig) -> None:
        """Raise RunError unless the fit to resume was asked for the same (library versions may differ)."""
        kept = _decode(self.path / CONFIG, RunConfig)
        for name in RunConfig.__struct_fields__:
            old, new = getattr(kept, name), getattr(config, name)
            if name != "library_versions" and old != new:
                raise RunError(f"{name} is {new}; the fit to resume was started with {old}")

    def write_checkpoint(self, fit: Fit) -> None:
        """Keep where the fit stands."""
        buffer = BytesIO()
        torch.save(fit.state_dict(), buffer)
        write_atomically(self.path / CHECKPOINT, buffer.getvalue())

    def write_epoch(self, fit: Fit) -> None:
        """Keep where the fit stands, then add its newest epoch to the metrics."""
        self.write_checkpoint(fit)
        with (self.path / METRICS).open("ab") as file:
            file.write(msgspec.json.encode(fit.history[-1]) + b"\n")

    def restore(self, fit: Fit, *, write: bool = True) -> None:
        """Put the fit where the last checkpoint left it, and the metrics with it (`write`).

        Raises RunError if the checkpoint is broken.
        """
        path = self.path / CHECKPOINT
        if path.is_file():
            try:
                fit.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
            except Exception as error:  # Broken bytes make torch.load raise anything.
                raise RunError(f"{path} is broken: {' '.join(str(error).split())}; --force starts again") from error
        # A kill between the checkpoint and the metrics leaves a line too few; the checkpoint knows them all.
        if write:
            write_atomically(self.path / METRICS, b"".join(msgspec.json.encode(row) + b"\n" for row in fit.history))

    def write_model(self, model: RecurrentModel) -> None:
        """Keep the weights."""
        write_atomically(self.path / WEIGHTS, safetensors.torch.save(model.state_dict()))

    def write_samples(self, samples: Samples) -> None:
        """Keep inputs to try the model on."""
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **samples)
        write_atomically(self.path / SAMPLES, buffer.getvalue())

    def write_series(self, series_ids: Sequence[str]) -> None:
        """Keep the ids of the series in the order of their numbers."""
        write_atomically(self.path / SERIES, msgspec.json.encode(list(series_ids)) + b"\n")

    def write_loss_picture(self, png: bytes) -> None:
        """Keep the picture of the losses."""
        write_atomically(self.path / LOSS_PICTURE, png)

    def write_backtest(self, backtest: Report, png: bytes) -> None:
        """Keep how well the model did. The last to be written: from here on the run is finished."""
        write_atomically(self.path / BACKTEST_PICTURE, png)
        write_atomically(self.path / BACKTEST, _pretty(backtest))


def _pretty(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
