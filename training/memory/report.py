"""Who still remembers, as a table and as a picture."""

from collections.abc import Sequence
from typing import Any

import msgspec
from matplotlib.figure import Figure

from training.memory.adding import BASELINE_MSE
from training.memory.contest import REMEMBERS_MSE, MemoryOptions, Trial

COLOURS = {"rnn": "tab:red", "lstm": "tab:blue", "gru": "tab:green", "gru-reset-after": "tab:olive"}


class MemoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `memory.json`: what was asked for, how it went, and with which libraries."""

    schema_version: int = 1
    baseline_mse: float = BASELINE_MSE
    remembers_mse: float = REMEMBERS_MSE
    options: MemoryOptions
    trials: list[Trial]
    library_versions: dict[str, str]


def budget_line(options: MemoryOptions) -> str:
    """The budget and the settings, which are the same in every row."""
    return (
        f"{options.steps} steps of {options.batch_size} new sequences each, hidden size {options.hidden_size}, one "
        f"layer; Adam, rate {options.learning_rate:g} falling linearly to 0, gradients cut at {options.clip_norm:g}; "
        f"gates start with time scales up to T (chrono); seed {options.seed}"
    )


def memory_table(report: MemoryReport) -> str:
    """`memory.md`: a row for each length and cell."""
    header = (
        f"# The adding problem: who still remembers?\n\n"
        f"The sum of two marked values among T, one in each half, is asked for after the last step (Hochreiter & "
        f"Schmidhuber 1997).\nAlways answering 1 has a mean squared error of {report.baseline_mse:.3f}; at most "
        f"{report.remembers_mse:g} counts as remembering. {report.options.held_out} held-out sequences.\n\n"
        f"Budget, the same for all: {budget_line(report.options)}.\ntorch {report.library_versions['torch']}, "
        f"threads: {report.options.threads}.\n\n"
        f"| T | cell | parameters | MSE after {report.options.steps} steps | first at most {report.remembers_mse:g} "
        f"at step | remembers | CPU seconds |\n"
    )
    lines = [f"{header}|---|---|---|---|---|---|---|"]
    for trial in report.trials:
        first = "–" if trial.first_step is None else str(trial.first_step)
        lines.append(
            f"| {trial.length} | {trial.cell} | {trial.num_parameters} | {trial.mse:.2g} | {first} "
            f"| {'yes' if trial.remembers else 'no'} | {trial.cpu_seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def memory_picture(report: MemoryReport) -> Figure:
    """The held-out error over the steps: a panel for each length, a line for each cell."""
    lengths = report.options.lengths
    figure = Figure(figsize=(1.5 + 3.8 * len(lengths), 5.4), layout="constrained")
    panels = figure.subplots(1, len(lengths), sharex=True, sharey=True, squeeze=False)[0]
    for panel, length in zip(panels, lengths, strict=True):
        _length(panel, length, [trial for trial in report.trials if trial.length == length], report)
    panels[0].set_ylabel("mean squared error, held-out sequences (log scale)")
    figure.suptitle(
        "The adding problem: two of T values are marked; what is their sum?\n"
        f"the same budget for all: {report.options.steps} steps of {report.options.batch_size} sequences"
    )
    return figure


def _length(panel: Any, length: int, trials: Sequence[Trial], report: MemoryReport) -> None:
    for trial in trials:
        panel.semilogy(
            [score.step for score in trial.scores],
            [score.mse for score in trial.scores],
            color=COLOURS[trial.cell],
            linewidth=1.6,
            label=f"{trial.cell}: {trial.mse:.2g} at the end",
        )
    panel.axhline(report.baseline_mse, color="0.3", linestyle="--", linewidth=1, label=f"always 1: {BASELINE_MSE:.3f}")
    panel.axhline(
        report.remembers_mse, color="0.3", linestyle=":", linewidth=1, label=f"remembers: {report.remembers_mse:g}"
    )
    panel.set_title(f"T = {length}\n{_who([trial.cell for trial in trials if trial.remembers])}", fontsize=11)
    panel.set_xlabel("training steps")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=9)


def _who(cells: Sequence[str]) -> str:
    if not cells:
        return "nobody remembers"
    return f"{' and '.join(cells)} remember{'s' if len(cells) == 1 else ''}"
