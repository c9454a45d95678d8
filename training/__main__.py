"""`python -m training fit` and `python -m training backtest`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from training.cells import CELL_KINDS
from training.commands import FitRequest, backtest_run, backtest_table, fit_run
from training.config import FitOptions
from training.data import DataOptions, SplitOptions
from training.data.gaps import POLICIES
from training.data.load import SPACINGS
from training.errors import OptionError, TrainingError
from training.model import ModelConfig
from training.transform import TRANSFORMS


class Parser(argparse.ArgumentParser):
    """argparse's, with its errors on one line and no guessing at shortened options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and stop."""
        self.exit(2, f"error: {message} (--help lists the options)\n")


def parser() -> Parser:
    """Every option with its default."""
    top = Parser(prog="python -m training", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    fit = commands.add_parser(
        "fit",
        help="fit a model to a series and test it",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = fit.add_argument_group("data")
    data.add_argument("--data", required=True, help="counting, counting-steps, FILE.csv or FILE.parquet")
    data.add_argument("--column", metavar="TARGET", help="the column to predict; open where there is only one")
    data.add_argument("--features", metavar="A,B", help="further columns that the prediction may look at")
    data.add_argument("--time", metavar="NAME", help="the column that orders the rows; found by its type if left out")
    data.add_argument("--gaps", choices=POLICIES, default="error", help="what to do where a value is missing")
    data.add_argument("--spacing", choices=SPACINGS, default="regular", help="any: count rows, ignore missing ones")
    data.add_argument("--validation", type=float, default=0.1, help="share of the series (below 1) or number of rows")
    data.add_argument("--test", type=float, default=0.2, help="share of the series (below 1) or number of rows")

    model = fit.add_argument_group("model")
    model.add_argument("--cell", choices=CELL_KINDS, default="lstm", help="the recurrent cell")
    model.add_argument("--window", type=int, default=5, help="values to look back on")
    model.add_argument("--hidden", type=int, default=32, help="hidden size")
    model.add_argument("--layers", type=int, default=1, help="cells on top of each other")
    model.add_argument("--transform", choices=tuple(TRANSFORMS), default="difference", help="what the cells see")

    how = fit.add_argument_group("fit")
    defaults = FitOptions(epochs=1)
    how.add_argument("--epochs", type=int, help="at most this many; by default enough for about 2000 steps")
    how.add_argument("--batch-size", type=int, default=defaults.batch_size, help="windows per step")
    how.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="peak of the one-cycle rate")
    how.add_argument("--weight-decay", type=float, default=defaults.weight_decay, help="AdamW's")
    how.add_argument("--patience", type=int, default=defaults.patience, help="epochs to wait for a better one")
    how.add_argument("--clip-norm", type=float, default=defaults.clip_norm, help="longest gradient")
    how.add_argument("--threads", type=int, default=defaults.threads, help="torch's; the weights depend on it")
    how.add_argument("--seed", type=int, default=0, help="fixes the weights bit for bit")

    run = fit.add_argument_group("run")
    run.add_argument("--out", required=True, type=Path, metavar="runs/NAME", help="folder for the run")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted fit; repeat its options")
    run.add_argument("--force", action="store_true", help="replace the run that is there")
    run.add_argument("--quiet", action="store_true", help="print the final table alone")

    again = commands.add_parser("backtest", help="repeat a run's backtest on a file")
    again.add_argument("--run", required=True, type=Path, metavar="runs/NAME", help="a finished run")
    again.add_argument("--data", required=True, help="as for fit")
    again.add_argument("--all-rows", action="store_true", help="score every row, not the test part alone")
    again.add_argument("--out", type=Path, metavar="FOLDER", help="also write backtest.json and backtest.png here")
    again.add_argument("--quiet", action="store_true", help="print the table alone")
    return top


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
            ),
            has_default_epochs=options.epochs is None,
            model=ModelConfig(
                cell=options.cell,
                window=options.window,
                num_features=1 + len(features),
                hidden_size=options.hidden,
                num_layers=options.layers,
                transform=options.transform,
            ),
            seed=options.seed,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it is done, 1 with one line on stderr when it cannot be, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    # Progress is for a person who watches; the result alone goes to stdout.
    console = Console(stderr=True, quiet=options.quiet, highlight=False, soft_wrap=True)
    try:
        if options.command == "fit":
            result = fit_run(
                fit_request(options), options.out, resume=options.resume, force=options.force, console=console
            )
        else:
            result = backtest_run(
                options.run, options.data, all_rows=options.all_rows, out=options.out, console=console
            )
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = [argument for argument in arguments if argument != "--force"]
        again += [] if "--resume" in again or options.command != "fit" else ["--resume"]
        print(f"interrupted; go on with: python -m training {shlex.join(again)}", file=sys.stderr)
        return 130
    Console().print(backtest_table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
