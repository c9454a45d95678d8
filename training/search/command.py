"""`python -m training search`: options, progress, and the command that fits the best."""

import argparse
import shlex
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from training import options as fit_options
from training.cells import CELL_KINDS
from training.commands import prepare
from training.data import load
from training.errors import FitError, OptionError
from training.files import write_atomically
from training.pictures import png
from training.scaling import SCALINGS
from training.search.report import SearchReport, report_of, rmse_of, search_picture
from training.search.study import SearchOptions, completed, judged, open_study, run_trials
from training.transform import TRANSFORMS

REPORT = "search.json"
PICTURE = "search.png"
SHOWN_TRIALS = 5
COLUMNS = (
    TextColumn("trial"),
    MofNCompleteColumn(),
    BarColumn(),
    TextColumn("{task.fields[best]}"),
    TimeElapsedColumn(),
)
# Options that `fit` has too, by their name there and their default.
_DATA = ("data", "column", "features", "series", "time", "gaps", "spacing", "season", "validation", "test")
_SHARED = (*_DATA, "horizon", "calendar", "scaling", "intervals", "levels", "threads", "precision", "device")


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `search` and its options with their defaults."""
    search: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="pick hyperparameters on the validation part",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    fit_options.add_data(search.add_argument_group("data"))
    space = search.add_argument_group("what to choose among")
    space.add_argument("--cells", default="lstm,gru", metavar="A,B", help="kinds of cell")
    space.add_argument("--windows", default="5", metavar="A,B", help="values to look back on")
    fit_options.add_task(search.add_argument_group("the same for all trials"))
    budget = search.add_argument_group("budget")
    budget.add_argument("--trials", type=int, default=30, help="in all, those of earlier calls included")
    budget.add_argument("--minutes", type=float, help="begin no trial after so many")
    budget.add_argument("--epochs", type=int, help="of each trial; by default enough for about 2000 steps")
    budget.add_argument("--seed", type=int, default=0, help="of the choices and of every fit")
    run = search.add_argument_group("run")
    fit_options.add_machine(run)
    run.add_argument("--out", required=True, type=Path, metavar="runs/NAME", help="folder; again to go on with it")
    run.add_argument("--quiet", action="store_true", help="print the result alone")
    return search


def run(options: argparse.Namespace, console: Console) -> int:
    """Search, write `search.json` and `search.png`, print the best trials and the command for the best."""
    base = _base(options)
    asked = _search_options(options)
    fit_parser = _fit_parser()

    def request_of(words: list[str]) -> Any:
        return fit_options.fit_request(fit_parser.parse_args([*base, *words, "--out", str(options.out)]))

    hidden = console.quiet or not console.is_terminal
    with load(request_of([]).data) as dataset, Progress(*COLUMNS, console=console, disable=hidden) as progress:
        # What no trial could bear is said before anything is written.
        for cell in asked.cells:
            request_of(["--cell", cell])
        prepare(request_of(["--window", str(min(asked.windows))]), dataset, console)
        target = dataset.features[0]
        words = [*base, "--cells", options.cells, "--windows", options.windows, "--seed", str(options.seed)]
        study = open_study(options.out, asked=shlex.join(words))
        bar = progress.add_task("search", total=asked.trials, completed=len(judged(study)), best=_best_so_far(study))

        def after_trial(trial: FrozenTrial) -> None:
            progress.update(bar, completed=len(judged(study)), best=_best_so_far(study))
            console.print(_line(trial))

        run_trials(study, asked, request_of, dataset, after_trial)
    if not completed(study):
        raise FitError(_why_none(study))
    report = report_of(study, target=target, base=base)
    write_atomically(options.out / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    write_atomically(options.out / PICTURE, png(search_picture(study, target=target)))
    out = Console(soft_wrap=True)
    out.print(_table(report))
    out.print(f"fit the best with:\n{report.command}", highlight=False)
    return 0


def _best_so_far(study: optuna.Study) -> str:
    best = completed(study)[:1]
    return f"best validation RMSE {best[0].value:.5g}" if best else ""


def _line(trial: FrozenTrial) -> str:
    value = rmse_of(trial)
    how = "" if trial.state is TrialState.COMPLETE else f" ({trial.user_attrs.get('error', 'ended early')})"
    told = "none" if value is None else f"{value:.5g}"
    return f"trial {trial.number}: validation RMSE {told}{how}  {' '.join(trial.user_attrs['options'])}"


def _why_none(study: optuna.Study) -> str:
    errors = [trial.user_attrs["error"] for trial in judged(study) if "error" in trial.user_attrs]
    if errors:
        return f"no trial came to its end; the last said: {errors[-1]}"
    return "no trial came to its end; allow more --minutes or more --trials"


def _fit_parser() -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser().add_subparsers()
    return fit_options.add_parser(commands)


def _base(options: argparse.Namespace) -> list[str]:
    """The options that every trial has, spelt for `fit`: those that differ from their default."""
    defaults = _fit_parser().parse_args(["--data", "", "--out", ""])
    words = []
    for name in (*_SHARED, "epochs", "seed"):
        value = getattr(options, name)
        if value != getattr(defaults, name):
            words += [f"--{name}", str(value)]
    return words


def _search_options(options: argparse.Namespace) -> SearchOptions:
    cells = tuple(options.cells.split(","))
    unknown = sorted(set(cells) - set(CELL_KINDS))
    if unknown:
        raise OptionError(f"cells has {unknown[0]!r}; it takes {', '.join(CELL_KINDS)}")
    try:
        return SearchOptions(
            cells=cells,
            windows=_windows(options.windows),
            trials=options.trials,
            minutes=options.minutes,
            seed=options.seed,
            transforms=tuple(
                kind for kind, cls in TRANSFORMS.items() if cls.steppable or options.intervals != "normalized"
            ),
            is_steppable=SCALINGS[options.scaling].steppable,
            can_skip=options.intervals != "normalized",
        )
    except ValueError as error:
        raise OptionError(str(error)) from error


def _windows(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(window) for window in text.split(","))
    except ValueError:
        raise OptionError(f"windows is {text!r}; it must be whole numbers with commas between") from None


def _table(report: SearchReport) -> Table:
    """The best trials for a person to read."""
    table = Table(title=f"{report.target}: the best of {len(report.trials)} trials, by the validation part alone")
    table.add_column("trial", justify="right")
    table.add_column("validation RMSE", justify="right")
    table.add_column("options")
    ended = [trial for trial in report.trials if trial.state == "complete" and trial.validation_rmse is not None]
    for trial in sorted(ended, key=lambda trial: (trial.validation_rmse, trial.number))[:SHOWN_TRIALS]:
        table.add_row(str(trial.number), f"{trial.validation_rmse:.5g}", " ".join(trial.options))
    return table
