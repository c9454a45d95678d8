"""A report as a table for the terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.backtest.report import Report, Row


def backtest_table(report: Report) -> Table:
    """The rows with their errors, skill and intervals, and below them who is missing and why."""
    protocol = report.protocol
    ahead = "one step ahead" if protocol.horizon == 1 else f"1 to {protocol.horizon} steps ahead"
    title = f"{protocol.target}, {ahead}, from {protocol.num_origins} origins"
    notes = ["skill: 1 - RMSE / RMSE of the last value"]
    if protocol.levels:
        notes.append("interval: share of values inside, mean width")
    if protocol.num_series > 1:
        notes.append(f"better than the last value on {report.num_series_better} of {protocol.num_series} series")
    notes += [f"{each.name} is left out: {each.reason}" for each in report.left_out]
    table = Table(
        title=title,
        caption="\n".join(notes),
        min_width=len(title),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for heading in ("RMSE", "MAE", "MASE", "skill", *(f"{100 * level:.4g} %\ninterval" for level in protocol.levels)):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        numbers = (
            f"{row.rmse:.5g}",
            f"{row.mae:.5g}",
            _or_dash(row.mase, ".3f"),
            _or_dash(row.skill_vs_last_value, ".1%"),
        )
        table.add_row(row.name, *numbers, *_intervals(row, len(protocol.levels)))
    return table


def _intervals(row: Row, num_levels: int) -> list[str]:
    if not row.intervals:
        return ["–"] * num_levels
    return [f"{each.coverage:.1%}, {each.mean_width:.4g}" for each in row.intervals]


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
