"""`python -m training fit`, `refit`, `backtest`, `search`, `explain` and `memory`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from training import options as fit_options
from training.backtest import backtest_table
from training.commands import backtest_run, fit_run, refit_run
from training.errors import TrainingError
from training.explain import command as explain
from training.memory import command as memory
from training.search import command as search
from training.workers import report, worker_count


class Parser(argparse.ArgumentParser):
    """argparse's, with its errors on one line and no guessing at shortened options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and stop."""
        report(f"error: {message} (--help lists the options)")
        sys.exit(2)


def parser() -> Parser:
    """Every option with its default; `run_command` of the parsed options is what the command does."""
    top = Parser(prog="python -m training", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    fit_options.add_parser(commands).set_defaults(run_command=_fit)
    _add_refit(commands).set_defaults(run_command=_refit)
    _add_backtest(commands).set_defaults(run_command=_backtest)
    for command in (search, explain, memory):
        command.add_parser(commands).set_defaults(run_command=command.run)
    return top


def _fit(options: argparse.Namespace, console: Console) -> int:
    result = fit_run(
        fit_options.fit_request(options),
        options.out,
        resume=options.resume,
        force=options.force,
        console=console,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    if result is not None:  # only one of several workers has one
        Console().print(backtest_table(result))
    return 0


def _add_refit(commands: Any) -> Parser:
    again: Parser = commands.add_parser("refit", help="fit a run again, on its validation part too")
    again.add_argument("--run", required=True, type=Path, metavar="runs/NAME", help="a finished run")
    again.add_argument("--data", required=True, help="what the run was fitted on, as for fit")
    again.add_argument("--out", required=True, type=Path, metavar="runs/NAME", help="folder for the new run")
    again.add_argument(
        "--epochs", type=int, metavar="N", help="epochs of the run's schedule; the run's best by default"
    )
    again.add_argument("--force", action="store_true", help="replace the run in --out")
    again.add_argument("--quiet", action="store_true", help="print the backtest alone")
    return again


def _refit(options: argparse.Namespace, console: Console) -> int:
    result = refit_run(
        options.run, options.data, options.out, epochs=options.epochs, force=options.force, console=console
    )
    if result is not None:  # only one of several workers has one
        Console().print(backtest_table(result))
    return 0


def _add_backtest(commands: Any) -> Parser:
    again: Parser = commands.add_parser("backtest", help="repeat a run's backtest on a file")
    again.add_argument("--run", required=True, type=Path, metavar="runs/NAME", help="a finished run")
    again.add_argument("--data", required=True, help="as for fit")
    again.add_argument("--all-rows", action="store_true", help="score every row, not the test part alone")
    again.add_argument("--horizon", type=int, metavar="N", help="values ahead; as many as the model gives if left out")
    again.add_argument("--out", type=Path, metavar="FOLDER", help="also write report.json and report.png here")
    again.add_argument("--quiet", action="store_true", help="print the table alone")
    return again


def _backtest(options: argparse.Namespace, console: Console) -> int:
    result = backtest_run(
        options.run,
        options.data,
        all_rows=options.all_rows,
        horizon=options.horizon,
        out=options.out,
        console=console,
    )
    Console().print(backtest_table(result))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it is done, 1 with one line on stderr when it cannot be, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    # Progress is for a person who watches; the result alone goes to stdout.
    console = Console(stderr=True, quiet=getattr(options, "quiet", False), highlight=False, soft_wrap=True)
    try:
        status: int = options.run_command(options, console)
    except (TrainingError, OSError) as error:
        report(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        if options.command != "fit":
            report("interrupted")
            return 130
        if worker_count() > 1:
            report("interrupted; go on with the same command and --resume")
            return 130
        again = [argument for argument in arguments if argument != "--force"]
        again += [] if "--resume" in again else ["--resume"]
        report(f"interrupted; go on with: python -m training {shlex.join(again)}")
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
