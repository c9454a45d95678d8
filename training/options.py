"""The options of `python -m training fit`, and the request they make."""

import argparse
from pathlib import Path
from typing import Any

import torch

from training.calendar import CYCLES
from training.cells import CELL_KINDS
from training.commands import CHECKPOINT_SECONDS, FitRequest
from training.config import DEVICES, PRECISIONS, FitOptions
from training.data import DataOptions, SplitOptions
from training.data.gaps import POLICIES
from training.data.load import SPACINGS
from training.errors import OptionError
from training.head import INTERVALS
from training.model import ModelConfig
from training.scaling import SCALINGS
from training.transform import TRANSFORMS


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `fit` and its options with their defaults."""
    fit: argparse.ArgumentParser = commands.add_parser(
        "fit",
        help="fit a model to series and test it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_data(fit.add_argument_group("data"))
    _add_model(fit.add_argument_group("model"))
    _add_fit(fit.add_argument_group("fit"))
    run = fit.add_argument_group("run")
    run.add_argument("--out", required=True, type=Path, metavar="runs/NAME", help="folder for the run")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted fit; repeat its options")
    run.add_argument("--force", action="store_true", help="replace the run that is there")
    run.add_argument(
        "--checkpoint-seconds", type=float, default=CHECKPOINT_SECONDS, help="in a long epoch, keep its state so often"
    )
    run.add_argument("--quiet", action="store_true", help="print the final table alone")
    return fit


def add_data(data: Any) -> None:
    """Add the options that say what to read."""
    data.add_argument("--data", required=True, help="counting, counting-steps, FILE.csv or FILE.parquet")
    data.add_argument("--column", metavar="TARGET", help="the column to predict; open where there is only one")
    data.add_argument("--features", metavar="A,B", help="further columns that the prediction may look at")
    data.add_argument("--series", metavar="NAME", help="the column of ids; series_id and unique_id are found")
    data.add_argument("--time", metavar="NAME", help="the column that orders the rows; found by its type if left out")
    data.add_argument("--gaps", choices=POLICIES, default="error", help="what to do where a value is missing")
    data.add_argument("--spacing", choices=SPACINGS, default="regular", help="any: count rows, ignore missing ones")
    data.add_argument("--season", type=int, metavar="ROWS", help="of the seasonal baseline; found if left out; 0: none")
    data.add_argument("--validation", type=float, default=0.1, help="share of the series (below 1) or number of rows")
    data.add_argument("--test", type=float, default=0.2, help="share of the series (below 1) or number of rows")


def _add_model(model: Any) -> None:
    model.add_argument("--cell", choices=CELL_KINDS, default="lstm", help="the recurrent cell")
    model.add_argument("--window", type=int, default=5, help="values to look back on")
    model.add_argument("--hidden", type=int, default=32, help="hidden size")
    model.add_argument("--layers", type=int, default=1, help="cells on top of each other")
    model.add_argument("--transform", choices=tuple(TRANSFORMS), default="difference", help="what the cells see")
    model.add_argument("--transition-depth", type=int, default=1, help="cells in each step of a layer")
    model.add_argument("--residual", action="store_true", help="add what a layer reads to what it says")
    model.add_argument("--linear-skip", action="store_true", help="add what is linear in the window")
    model.add_argument("--output-depth", type=int, default=1, help="layers between the last cell and the prediction")
    add_task(model)


def add_task(model: Any) -> None:
    """Add the options of a model that say what is asked of it, rather than how it does it."""
    model.add_argument("--horizon", type=int, default=1, help="values ahead to predict directly")
    model.add_argument("--calendar", metavar="A,B", help=f"cycles to show the cells: {', '.join(CYCLES)}")
    model.add_argument("--scaling", choices=tuple(SCALINGS), default="fit", help="where a series' unit comes from")
    model.add_argument("--intervals", choices=INTERVALS, default="conformal", help="how sure: how intervals are found")
    model.add_argument("--levels", metavar="A,B", default="0.9", help="shares of values that intervals shall hold")


def add_machine(how: Any) -> None:
    """Add the options that say what a fit runs on."""
    defaults = FitOptions(epochs=1)
    how.add_argument("--threads", type=int, default=defaults.threads, help="torch's; the weights depend on it")
    how.add_argument("--precision", choices=PRECISIONS, default=defaults.precision, help="mixed: bfloat16 in matmuls")
    how.add_argument("--device", choices=("auto", *DEVICES), default="auto", help="auto: a GPU if there is one")


def _add_fit(how: Any) -> None:
    defaults = FitOptions(epochs=1)
    how.add_argument("--epochs", type=int, help="at most this many; by default enough for about 2000 steps")
    how.add_argument("--batch-size", type=int, default=defaults.batch_size, help="windows per step")
    how.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="peak of the one-cycle rate")
    how.add_argument("--weight-decay", type=float, default=defaults.weight_decay, help="AdamW's")
    how.add_argument("--patience", type=int, default=defaults.patience, help="epochs to wait for a better one")
    how.add_argument("--clip-norm", type=float, default=defaults.clip_norm, help="longest gradient")
    how.add_argument("--huber-delta", type=float, default=defaults.huber_delta, help="where the loss turns linear")
    how.add_argument("--loss-steps", type=int, default=defaults.loss_steps, help="last steps of a window that teach")
    how.add_argument(
        "--augment", type=float, default=defaults.augment, help="share of windows moved and stretched at random"
    )
    how.add_argument("--average", type=float, default=defaults.average, help="decay of the weights' running average")
    how.add_argument(
        "--epoch-windows", type=int, default=defaults.epoch_windows, help="at most so many per epoch; 0: all"
    )
    add_machine(how)
    how.add_argument("--seed", type=int, default=0, help="fixes the weights bit for bit")


def fit_request(options: argparse.Namespace) -> FitRequest:
    """The parsed options as values. Raises OptionError for one that cannot be used."""
    features = tuple(options.features.split(",")) if options.features else ()
    if not 0 <= options.seed < 2**63:
        raise OptionError(f"seed is {options.seed}; it must be from 0 to 2**63 - 1")
    try:
        return FitRequest(
            data=DataOptions(
                source=options.data,
                column=options.column,
                features=features,
                series=options.series,
                time=options.time,
                gaps=options.gaps,
                spacing=options.spacing,
            ),
            split=SplitOptions(validation=options.validation, test=options.test),
            fit=FitOptions(
                epochs=1 if options.epochs is None else options.epochs,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                weight_decay=options.weight_decay,
                patience=options.patience,
                clip_norm=options.clip_norm,
                threads=options.threads,
                huber_delta=options.huber_delta,
                average=options.average,
                loss_steps=options.loss_steps,
                augment=options.augment,
                epoch_windows=options.epoch_windows,
                precision=options.precision,
                device=_device(options.device),
            ),
            has_default_epochs=options.epochs is None,
            model=ModelConfig(
                cell=options.cell,
                window=options.window,
                num_features=1 + len(features),
                hidden_size=options.hidden,
                num_layers=options.layers,
                transform=options.transform,
                transition_depth=options.transition_depth,
                residual=options.residual,
                output_depth=options.output_depth,
                horizon=options.horizon,
                calendar=tuple(options.calendar.split(",")) if options.calendar else (),
                scaling=options.scaling,
                # How many there are, the data will tell.
                num_series=1 if options.scaling == "series" else 0,
                intervals=options.intervals,
                linear_skip=options.linear_skip,
                levels=() if options.intervals == "none" else _levels(options.levels),
            ),
            seed=options.seed,
            season=options.season,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error


def _device(asked: str) -> str:
    """The device meant by `auto`. Raises OptionError for a GPU that is not there."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise OptionError("device is 'cuda', but torch finds no GPU; it must be cpu or auto here")
    return asked


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise OptionError(f"levels is {text!r}; it must be numbers between 0 and 1 with commas between") from None
