"""What a window costs against its length and the batch, drawn from the table that a measurement left.

python -m benchmarks.graphs.picture [--table benchmarks/results/graphs.md] [--cell lstm] [--hidden 50]
                                    [--out docs/pictures/graphs-cost.png]
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from training.pictures.png import png

HERE = Path(__file__).parents[1]
OURS = "ours"
# Columns of the table that are no side.
OTHER_COLUMNS = ("floor", "our graph", "best peer", "ratio")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Microseconds a run of each side at one point."""

    window: int
    batch: int
    microseconds: Mapping[str, float]


def read(table: str, *, cell: str, hidden_size: int) -> list[Cost]:
    """The points of one cell and hidden size. Raises ValueError where the table has none."""
    rows = [
        [part.strip() for part in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    if not rows:
        raise ValueError("no table")
    header, found = rows[0], []
    for row in rows[2:]:
        kind, hidden, window, batch = (part.strip() for part in row[0].split(","))
        if (kind, int(hidden)) == (cell, hidden_size):
            sides = {
                name: float(value)
                for name, value in zip(header[1:], row[1:], strict=True)
                if name not in OTHER_COLUMNS and value != "–"
            }
            found.append(Cost(window=int(window), batch=int(batch), microseconds=sides))
    if not found:
        raise ValueError(f"no row of {cell}, hidden size {hidden_size}")
    return found


def draw(costs: Sequence[Cost], title: str) -> Figure:
    """Against the batch at the middle window, and against the window for a single one and a full batch."""
    windows, batches = sorted({cost.window for cost in costs}), sorted({cost.batch for cost in costs})
    middle = windows[len(windows) // 2]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title)
    left, centre, right = figure.subplots(1, 3)
    _lines(left, [cost for cost in costs if cost.window == middle], "batch", per_window=True)
    left.set(title=f"{middle} values in a window", xlabel="windows in a run", ylabel="time for a window (µs)")
    for axes, batch in ((centre, batches[0]), (right, batches[-1])):
        _lines(axes, [cost for cost in costs if cost.batch == batch], "window", per_window=False)
        axes.set(
            title=f"{batch} window{'s' * (batch > 1)} in a run",
            xlabel="values in a window",
            ylabel="time for a run (µs)",
        )
    left.legend(fontsize="small")
    return figure


def _lines(axes: Axes, costs: Sequence[Cost], against: str, *, per_window: bool) -> None:
    names: Iterable[str] = dict.fromkeys(name for cost in costs for name in cost.microseconds)
    for name in names:
        points = [
            (getattr(cost, against), cost.microseconds[name] / (cost.batch if per_window else 1))
            for cost in costs
            if name in cost.microseconds
        ]
        is_ours = name == OURS
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            label=name,
            linewidth=2.5 if is_ours else 1.2,
            color="black" if is_ours else None,
            zorder=3 if is_ours else 2,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({getattr(cost, against) for cost in costs})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graphs.picture", description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=HERE / "results" / "graphs.md")
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--hidden", type=int, default=50)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "pictures" / "graphs-cost.png")
    options = parser.parse_args(arguments)
    try:
        table = options.table.read_text()
        costs = read(table, cell=options.cell, hidden_size=options.hidden)
    except (OSError, ValueError) as error:
        print(f"error: {options.table}: {error}", file=sys.stderr)
        return 1
    figure = draw(costs, f"A window graph of an {options.cell} with {options.hidden} hidden values, one thread")
    options.out.write_bytes(png(figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
