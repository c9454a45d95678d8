"""Fit a run and end with a backtest; fit it again on its validation part too; repeat a run's backtest on a file."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.backtest import Baselines, Report, fit_baselines, judge
from training.baselines import check_season
from training.build import check_resolution, new_model
from training.config import FitOptions, RunConfig, check_fits, default_epochs, library_versions
from training.conformal import calibrate, check_levels, take_calibration
from training.data import DataOptions, Dataset, Parts, SplitOptions, all_windows, load, split_windows
from training.data.parts import coverage_lines
from training.data.progress import shown
from training.data.provenance import gap_lines
from training.data.runs import spread_evenly
from training.errors import DataError, OptionError
from training.fit import Fit
from training.model import ModelConfig, RecurrentModel
from training.pictures import backtest_picture, loss_picture, png
from training.run import Run, RunFolder, Samples, best_epoch, load_run
from training.workers import Workers, join

MAX_SAMPLES = 256
# An epoch of more steps than this shows its own progress.
MANY_STEPS = 200
# Where an epoch takes longer than this, the fit can be resumed from within it, unless asked otherwise.
CHECKPOINT_SECONDS = 30.0


class FitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks of a fit.

    `has_default_epochs` leaves the number of epochs to the size of the data. `season` rows are what the seasonal
    naive baseline looks back on: None to find out, 0 for none.
    """

    data: DataOptions
    split: SplitOptions
    fit: FitOptions
    model: ModelConfig
    seed: int
    has_default_epochs: bool
    season: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a season, or a model that cannot be fitted in the way asked for."""
        check_season(self.season)
        check_fits(self.fit, self.model)


def fit_run(
    request: FitRequest,
    out: Path,
    *,
    resume: bool,
    force: bool,
    console: Console,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Report | None:
    """Fit a model on the data, keep the run in `out` and return its backtest.

    Under torchrun every worker takes its share of each batch; the first alone writes, and returns a backtest.
    Raises TrainingError for anything wrong with options, data or folder, before anything is written.
    """
    if not checkpoint_seconds >= 0:
        raise OptionError(f"checkpoint_seconds is {checkpoint_seconds}; it must be at least 0")
    torch.set_num_threads(request.fit.threads)
    folder = RunFolder(out)
    with join(request.fit.device) as workers, _loaded(request.data, _heard(console, workers)) as dataset:
        config, parts = prepare(request, dataset, console)
        model = new_model(config.model, parts.fit, seed=config.seed)
        check_resolution(model, parts.fit, config.features)
        model.to(workers.device, config.fit.dtype)
        if workers.is_first:
            folder.prepare(resume=resume, force=force)
        _fit_together(
            model,
            parts,
            config,
            folder,
            workers=workers,
            resume=resume,
            console=console,
            checkpoint_seconds=checkpoint_seconds,
        )
        if not workers.is_first:
            return None
        model.to("cpu", torch.float32).eval()
        if model.needs_series:
            folder.write_series(dataset.series_ids)
        calibrate(model, parts.validation)
        baselines = fit_baselines(parts, levels=model.config.levels, season=request.season)
        return _finish(model, parts, config, folder, series_ids=dataset.series_ids, baselines=baselines)


def refit_run(
    run_path: Path, source: str, out: Path, *, epochs: int | None, force: bool, console: Console
) -> Report | None:
    """Fit a run's model anew on its parts to fit and to validate on, keep it in `out` and return its backtest.

    It has `epochs` epochs of the run's own schedule (None: as many as the run's best), nothing stops it early, and the
    last weights are kept. Its intervals reach as far as the run's, which were calibrated on values that the run was not
    fitted on; its baselines are the run's too. Under torchrun the first worker alone returns a backtest. Raises
    TrainingError where run, data or folder cannot be used.
    """
    run = load_run(run_path)
    config = _refit_config(run, out, best_epoch(run_path) if epochs is None else epochs)
    torch.set_num_threads(config.fit.threads)
    folder = RunFolder(out)
    options = msgspec.structs.replace(config.data, source=source, column=config.features[0])
    with join(config.fit.device) as workers, _loaded(options, _heard(console, workers)) as dataset:
        _describe(dataset, console)
        if dataset.provenance != config.provenance:
            raise DataError(f"--data is {source}, which is not what {run_path} was fitted on; its parts would differ")
        config = msgspec.structs.replace(config, data=options)
        parts = split_windows(dataset, config.split, config.model.window, config.model.horizon)
        parts = parts._replace(fit=parts.fit.joined(parts.validation))
        model = new_model(config.model, parts.fit, seed=config.seed, scales_of=run.model)
        model.to(workers.device, config.fit.dtype)
        if workers.is_first:
            folder.prepare(resume=False, force=force)
        _fit_together(
            model,
            parts,
            config,
            folder,
            workers=workers,
            resume=False,
            console=console,
            checkpoint_seconds=CHECKPOINT_SECONDS,
        )
        if not workers.is_first:
            return None
        model.to("cpu", torch.float32).eval()
        take_calibration(model, run.model)
        if model.needs_series:
            folder.write_series(dataset.series_ids)
        baselines = msgspec.convert(run.backtest, Report).baselines
        return _finish(model, parts, config, folder, series_ids=dataset.series_ids, baselines=baselines)


def _refit_config(run: Run, out: Path, epochs: int) -> RunConfig:
    """The run's own, but for the epochs. Raises OptionError for what cannot be asked of it."""
    fit = run.config.fit
    if fit.refit_epochs:
        raise OptionError(f"--run is {run.path}, which was fitted on its validation part; give the run it came from")
    if out.resolve() == run.path.resolve():
        raise OptionError(f"--out is {out}, the run itself; it must be another folder")
    if not 1 <= epochs <= fit.epochs:
        raise OptionError(f"epochs is {epochs}; it must be from 1 to {fit.epochs}, as many as the run's schedule has")
    if fit.device == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"--run is {run.path}, which was fitted on a GPU, and torch finds none")
    return msgspec.structs.replace(
        run.config, fit=msgspec.structs.replace(fit, refit_epochs=epochs), library_versions=library_versions()
    )


def _fit_together(
    model: RecurrentModel,
    parts: Parts,
    config: RunConfig,
    folder: RunFolder,
    *,
    workers: Workers,
    resume: bool,
    console: Console,
    checkpoint_seconds: float,
) -> None:
    """Leave the best weights in the model. What the workers share ends with this call, before they part."""
    fit = Fit(model, parts, config.fit, seed=config.seed, workers=workers)
    if resume:
        folder.check_same_config(config)
        folder.restore(fit, write=workers.is_first)
    elif workers.is_first:
        folder.write_config(config)
    _run_epochs(fit, folder if workers.is_first else None, console, checkpoint_seconds)
    fit.restore_best()
    if workers.is_first:
        folder.write_loss_picture(png(loss_picture(fit.history)))


def _finish(
    model: RecurrentModel,
    parts: Parts,
    config: RunConfig,
    folder: RunFolder,
    *,
    series_ids: Sequence[str],
    baselines: Baselines,
) -> Report:
    """Judge and keep the fitted and calibrated model."""
    folder.write_model(model)
    folder.write_samples(_samples(parts, model))
    judged = judge(
        model, parts.test, baselines, target=config.features[0], source=config.data.source, series_ids=series_ids
    )
    folder.write_backtest(judged.report, png(backtest_picture(judged)))
    return judged.report


def backtest_run(
    run_path: Path, source: str, *, all_rows: bool, horizon: int | None, out: Path | None, console: Console
) -> Report:
    """Repeat a run's backtest on `source`: same columns and gap policy, nothing fitted again.

    Scores the part that the run's split calls test, or every row (`all_rows`), `horizon` values ahead (None: as many
    as the model gives directly). `out` is a folder to keep `report.json` and `report.png` in. Raises TrainingError
    where run or data cannot be used.
    """
    if horizon is not None and horizon < 1:
        raise OptionError(f"horizon is {horizon}; it must be at least 1")
    run = load_run(run_path)
    before = msgspec.convert(run.backtest, Report)
    model = run.config.model
    options = msgspec.structs.replace(run.config.data, source=source, column=run.config.features[0])
    with _loaded(options, console) as dataset:
        _describe(dataset, console)
        if run.series_ids:
            dataset = dataset.numbered_as(tuple(run.series_ids))  # noqa: PLW2901 (the same rows)
        test = (
            all_windows(dataset, model.window, model.horizon)
            if all_rows
            else split_windows(dataset, run.config.split, model.window, model.horizon).test
        )
        judged = judge(
            run.model,
            test,
            before.baselines,
            target=run.config.features[0],
            source=source,
            horizon=horizon,
            series_ids=dataset.series_ids,
        )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        RunFolder(out).write_backtest(judged.report, png(backtest_picture(judged)))
    return judged.report


def prepare(request: FitRequest, dataset: Dataset, console: Console) -> tuple[RunConfig, Parts]:
    """All that a run depends on, and its windows. Raises DataError where the data does not bear the model."""
    _describe(dataset, console)
    model = request.model
    if model.scaling == "series":
        if not dataset.series_ids:
            raise DataError("scaling is 'series', but the data has no column that names series (--series NAME)")
        model = msgspec.structs.replace(model, num_series=len(dataset.series_ids))
    parts = split_windows(dataset, request.split, model.window, model.horizon)
    for line in coverage_lines(dataset, parts):
        console.print(f"  {line}")
    if model.calendar and not parts.fit.has_times:
        raise DataError(f"calendar is {', '.join(model.calendar)}, but the data has no column of dates (--time NAME)")
    check_levels(model.levels, parts.validation)
    fit = request.fit
    if request.has_default_epochs:
        num_windows = min(len(parts.fit), fit.epoch_windows or len(parts.fit))
        fit = msgspec.structs.replace(fit, epochs=default_epochs(num_windows, fit.batch_size))
    console.print(f"windows: {len(parts.fit)} to fit on, {len(parts.validation)} validation, {len(parts.test)} test")
    config = RunConfig(
        model=model,
        features=dataset.features,
        data=request.data,
        provenance=dataset.provenance,
        split=request.split,
        fit=fit,
        seed=request.seed,
        library_versions=library_versions(),
    )
    return config, parts


def _heard(console: Console, workers: Workers) -> Console:
    """The console, silenced for all but the first worker."""
    console.quiet |= not workers.is_first
    return console


def _loaded(options: DataOptions, console: Console) -> Dataset:
    """The dataset; where reading it takes long, a bar says how long."""
    with shown(console) as progress:
        return load(options, progress=progress)


def _describe(dataset: Dataset, console: Console) -> None:
    known = dataset.provenance
    order = f"ordered by {known.time}" if known.time else "in the order given"
    filled = f", {known.num_gaps_filled} gaps filled" if known.num_gaps_filled else ""
    untimed = f", {known.num_rows_untimed} rows without a time dropped" if known.num_rows_untimed else ""
    trimmed = f", {known.num_rows_trimmed} rows cut at the ends" if known.num_rows_trimmed else ""
    console.print(f"data: {known.num_rows} rows of {', '.join(dataset.features)} {order}{filled}{untimed}{trimmed}")
    for line in gap_lines(known):
        console.print(f"  {line}")


def _run_epochs(fit: Fit, folder: RunFolder | None, console: Console, checkpoint_seconds: float) -> None:
    """Fit to the end, keeping each epoch in `folder` and, where they are long, points in between."""
    kept_at = time.monotonic()
    steps = fit.steps_per_epoch
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

        def after_step() -> None:
            nonlocal kept_at
            if steps >= MANY_STEPS:
                progress.update(bar, completed=len(fit.history) + fit.position / steps)
            if folder is not None and time.monotonic() - kept_at > checkpoint_seconds:
                folder.write_checkpoint(fit)
                kept_at = time.monotonic()

        while not fit.is_finished:
            metrics = fit.run_epoch(after_step)
            if folder is not None:
                folder.write_epoch(fit)
                kept_at = time.monotonic()
            progress.update(
                bar, completed=len(fit.history), train=metrics.train_loss, validation=metrics.validation_loss
            )
    if fit.best is not None:
        console.print(
            f"fit: {len(fit.history)} epochs, best is {fit.best.epoch} "
            f"(validation loss {fit.best.validation_loss:.4g}, RMSE {fit.best.validation_rmse:.4g})"
        )


def _samples(parts: Parts, model: RecurrentModel) -> Samples:
    """Up to MAX_SAMPLES inputs of the model spread evenly over validation and test."""
    chosen = spread_evenly(len(parts.validation) + len(parts.test), MAX_SAMPLES)
    in_test = chosen >= len(parts.validation)
    found = (
        parts.validation.batch(chosen[~in_test], np.float32),
        parts.test.batch(chosen[in_test] - len(parts.validation), np.float32),
    )
    names = ["window"] + ["time_seconds"] * model.needs_time + ["series"] * model.needs_series
    arrays = {"window": "windows", "time_seconds": "time_seconds", "series": "series"}
    return {name: np.concatenate([getattr(batch, arrays[name]) for batch in found]) for name in names}
