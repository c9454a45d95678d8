"""The two commands: fit a run and end with a backtest; repeat a run's backtest on a file."""

import math
from pathlib import Path

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.backtest import Backtest, backtest
from training.baselines import fit_autoregression
from training.config import FitOptions, RunConfig, default_epochs, library_versions
from training.data import DataOptions, Dataset, Parts, SplitOptions, WindowSet, load, split_windows
from training.errors import DataError
from training.fit import Fit, check_resolution, new_model
from training.model import ModelConfig
from training.pictures import backtest_picture, loss_picture
from training.run import RunFolder, load_run

MAX_SAMPLES = 256


class FitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks of a fit.

    `has_default_epochs` leaves the number of epochs to the size of the data.
    """

    data: DataOptions
    split: SplitOptions
    fit: FitOptions
    model: ModelConfig
    seed: int
    has_default_epochs: bool


def fit_run(request: FitRequest, out: Path, *, resume: bool, force: bool, console: Console) -> Backtest:
    """Fit a model on the data, keep the run in `out` and return its backtest.

    Raises TrainingError for anything wrong with options, data or folder, before anything is written.
    """
    config, parts = _prepare(request, console)
    model = new_model(config.model, parts.fit, seed=config.seed)
    check_resolution(model, parts.fit, config.features)
    folder = RunFolder(out)
    folder.prepare(resume=resume, force=force)
    torch.set_num_threads(config.fit.threads)
    fit = Fit(model, parts, config.fit, seed=config.seed)
    if resume:
        folder.check_same_config(config)
        folder.restore(fit)
    else:
        folder.write_config(config)
    _run_epochs(fit, folder, console)
    fit.restore_best()
    folder.write_model(model)
    folder.write_samples(_samples(parts))
    folder.write_loss_picture(loss_picture(fit.history))
    autoregression = fit_autoregression(parts.fit)
    result, predictions = backtest(
        model, parts.test, autoregression, target=config.features[0], source=config.data.source
    )
    folder.write_backtest(result, backtest_picture(result, predictions))
    return result


def backtest_run(run_path: Path, source: str, *, all_rows: bool, out: Path | None, console: Console) -> Backtest:
    """Repeat a run's backtest on `source`: same columns and gap policy, nothing fitted again.

    Scores the part that the run's split calls test, or every row (`all_rows`). `out` is a folder to keep
    `backtest.json` and `backtest.png` in. Raises TrainingError where run or data cannot be used.
    """
    run = load_run(run_path)
    before = msgspec.convert(run.backtest, Backtest)
    dataset = load(msgspec.structs.replace(run.config.data, source=source, column=run.config.features[0]))
    _describe(dataset, console)
    test = (
        _all_windows(dataset, run.config.model.window)
        if all_rows
        else split_windows(dataset, run.config.split, run.config.model.window).test
    )
    result, predictions = backtest(
        run.model, test, before.protocol.autoregression, target=run.config.features[0], source=source
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_backtest(result, backtest_picture(result, predictions))
    return result


def backtest_table(result: Backtest) -> Table:
    """The rows of a backtest for a person to read."""
    skill = result.skill_vs_last_value
    caption = "the last value is always right" if skill is None else f"skill against the last value: {skill:.1%}"
    title = f"{result.protocol.target}, one step ahead, {result.protocol.num_targets} values"
    # Wide enough for both lines of text.
    table = Table(title=title, caption=caption, min_width=max(len(title), len(caption)))
    table.add_column("")
    table.add_column("RMSE", justify="right")
    table.add_column("MAE", justify="right")
    for row in result.rows:
        table.add_row(row.name, f"{row.rmse:.5g}", f"{row.mae:.5g}")
    return table


def _prepare(request: FitRequest, console: Console) -> tuple[RunConfig, Parts]:
    dataset = load(request.data)
    _describe(dataset, console)
    parts = split_windows(dataset, request.split, request.model.window)
    fit = request.fit
    if request.has_default_epochs:
        fit = msgspec.structs.replace(fit, epochs=default_epochs(len(parts.fit), fit.batch_size))
    console.print(f"windows: {len(parts.fit)} to fit on, {len(parts.validation)} validation, {len(parts.test)} test")
    config = RunConfig(
        model=request.model,
        features=dataset.features,
        data=request.data,
        provenance=dataset.provenance,
        split=request.split,
        fit=fit,
        seed=request.seed,
        library_versions=library_versions(),
    )
    return config, parts


def _describe(dataset: Dataset, console: Console) -> None:
    known = dataset.provenance
    order = f"ordered by {known.time}" if known.time else "in the order given"
    filled = f", {known.num_gaps_filled} gaps filled" if known.num_gaps_filled else ""
    untimed = f", {known.num_rows_untimed} rows without a time dropped" if known.num_rows_untimed else ""
    trimmed = f", {known.num_rows_trimmed} rows cut at the ends" if known.num_rows_trimmed else ""
    console.print(f"data: {known.num_rows} rows of {', '.join(dataset.features)} {order}{filled}{untimed}{trimmed}")


def _run_epochs(fit: Fit, folder: RunFolder, console: Console) -> None:
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[train]:.3g}, validation {task.fields[validation]:.3g}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=console.quiet or not console.is_terminal) as progress:
        bar = progress.add_task(
            "fit", total=fit.options.epochs, completed=len(fit.history), train=math.nan, validation=math.nan
        )
        while not fit.is_finished:
            metrics = fit.run_epoch()
            folder.write_epoch(fit)
            progress.update(bar, advance=1, train=metrics.train_loss, validation=metrics.validation_loss)
    if fit.best is not None:
        console.print(
            f"fit: {len(fit.history)} epochs, best is {fit.best.epoch} "
            f"(validation loss {fit.best.validation_loss:.4g}, RMSE {fit.best.validation_rmse:.4g})"
        )


def _samples(parts: Parts) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Up to MAX_SAMPLES windows [N, T, F] spread evenly over validation and test."""
    rows = np.concatenate((parts.validation.rows, parts.test.rows))
    both = WindowSet(values=parts.test.values, rows=rows, window=parts.test.window)
    return both.windows(MAX_SAMPLES).astype(np.float32)


def _all_windows(dataset: Dataset, window: int) -> WindowSet:
    """Every window of a dataset that the run has not seen."""
    values = np.concatenate([series.values for series in dataset.series])
    rows = []
    offset = 0
    for series in dataset.series:
        inside = np.arange(window, len(series.values))
        rows.append(offset + inside[series.targetable[inside]])
        offset += len(series.values)
    found = WindowSet(values=values, rows=np.concatenate(rows), window=window)
    if not len(found):
        raise DataError(f"the data has {len(values)} rows; a backtest needs at least {window + 1} (window {window})")
    return found
