"""`python -m training memory`: who still remembers, as JSON, table and picture."""

import argparse
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from training.config import library_versions
from training.errors import OptionError
from training.files import write_atomically
from training.memory.contest import MemoryOptions, run_trial
from training.memory.report import MemoryReport, memory_picture, memory_table

DOTS_PER_INCH = 100


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add `memory` and its options with their defaults."""
    memory: argparse.ArgumentParser = commands.add_parser(
        "memory",
        help="see which kinds of cell still remember",
        description="Fits each kind of cell to the adding problem at growing lengths, all within the same budget.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    defaults = MemoryOptions()
    memory.add_argument("--cells", metavar="A,B", default=",".join(defaults.cells), help="hand-written kinds")
    memory.add_argument("--lengths", metavar="A,B", default=",".join(map(str, defaults.lengths)), help="steps T")
    memory.add_argument("--steps", type=int, default=defaults.steps, help="training steps of each kind and length")
    memory.add_argument("--batch-size", type=int, default=defaults.batch_size, help="new sequences in each step")
    memory.add_argument("--hidden", type=int, default=defaults.hidden_size, help="hidden size")
    memory.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="Adam's, falling to 0")
    memory.add_argument("--clip-norm", type=float, default=defaults.clip_norm, help="longest gradient")
    memory.add_argument("--held-out", type=int, default=defaults.held_out, help="sequences that the error is told on")
    memory.add_argument("--evaluations", type=int, default=defaults.evaluations, help="how often it is told")
    memory.add_argument("--threads", type=int, default=defaults.threads, help="torch's")
    memory.add_argument("--seed", type=int, default=defaults.seed, help="fixes weights and sequences")
    memory.add_argument("--out", type=Path, default=Path("runs/memory"), metavar="FOLDER", help="for the three files")
    memory.add_argument("--quiet", action="store_true", help="print the table alone")
    return memory


def run(options: argparse.Namespace, console: Console) -> int:
    """Run every trial, then write `memory.json`, `memory.md` and `memory.png`. Raises TrainingError for bad options."""
    asked = MemoryOptions(
        cells=tuple(options.cells.split(",")),
        lengths=_lengths(options.lengths),
        steps=options.steps,
        batch_size=options.batch_size,
        hidden_size=options.hidden,
        learning_rate=options.learning_rate,
        clip_norm=options.clip_norm,
        seed=options.seed,
        held_out=options.held_out,
        evaluations=options.evaluations,
        threads=options.threads,
    )
    out: Path = options.out
    if out.exists() and not out.is_dir():
        raise OptionError(f"--out is {out}, which is a file; it must be a folder")
    report = _contest(asked, console)
    table = memory_table(report)
    picture = BytesIO()
    memory_picture(report).savefig(picture, format="png", dpi=DOTS_PER_INCH)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "memory.json", msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    write_atomically(out / "memory.md", table.encode())
    write_atomically(out / "memory.png", picture.getvalue())
    Console().print(Markdown(table))
    return 0


def _contest(options: MemoryOptions, console: Console) -> MemoryReport:
    """Every kind at every length, with progress for a person who watches."""
    torch.set_num_threads(options.threads)
    columns = (
        TextColumn("T = {task.fields[length]:3d} {task.fields[cell]:5s}"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("held-out MSE {task.fields[mse]:.2g}"),
        TimeRemainingColumn(),
    )
    trials = []
    with Progress(*columns, console=console, disable=console.quiet or not console.is_terminal) as progress:
        for length in options.lengths:
            for cell in options.cells:
                bar = progress.add_task("memory", total=options.steps, length=length, cell=cell, mse=float("nan"))
                trial = run_trial(cell, length, options, partial(_show, progress, bar))
                trials.append(trial)
                console.print(f"T = {length}, {cell}: MSE {trial.mse:.2g} after {trial.cpu_seconds:.0f} CPU seconds")
    return MemoryReport(options=options, trials=trials, library_versions=library_versions())


def _show(progress: Progress, bar: TaskID, step: int, mse: float) -> None:
    progress.update(bar, completed=step, mse=mse)


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(length) for length in text.split(","))
    except ValueError:
        raise OptionError(f"lengths is {text!r}; it must be whole numbers with commas between") from None
