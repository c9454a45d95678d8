"""python -m tests.e2e.watching.picture MODELS: docs/pictures/dashboard.png and status-page.png, from a real run.

The dashboard is drawn here, not by Grafana: each panel at its place on Grafana's grid, with its title, unit and legend,
and in it what a real Prometheus answers to the panel's queries. MODELS is a repository of tests.artifacts.
"""

import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tests.e2e.prometheus import prometheus
from tests.e2e.watching import chromium
from tests.e2e.watching.dashboard import COLUMNS, LOOKBACK, Line, Panel, lines_of, panels
from tests.e2e.watching.traffic import repository, under_traffic

SECONDS = 60.0
PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
# Inches of a cell of the grid, and around a panel.
CELL_WIDTH, CELL_HEIGHT = 0.6, 0.36
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.2, 0.38, 0.62
# A time has its unit at every number.
UNITS = {"reqps": "calls/s", "ops": "/s", "s": "", "none": ""}


def shown(value: float, unit: str) -> str:
    """As an axis or a large number has it."""
    if unit == "s":
        for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
    if abs(value) >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}"


def draw(panel: Panel, lines: list[Line], axes: Axes, now: float) -> None:
    """One panel."""
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    if panel.kind == "stat":
        value = lines[0].points[-1][1]
        axes.plot(*zip(*lines[0].points, strict=True), color="tab:green", alpha=0.35)
        low, high = axes.get_ylim()
        # The line below, the number above.
        axes.set_ylim(low, high + 1.5 * (high - low))
        number = f"{shown(value, panel.unit)} {UNITS[panel.unit]}"
        place = axes.transAxes
        axes.text(0.5, 0.72, number, transform=place, ha="center", va="center", fontsize=20, color="tab:green")
        axes.set_axis_off()
        return
    times = [[at - now for at, _ in line.points] for line in lines]
    if panel.is_stacked:
        every = sorted({at for each in times for at in each})
        rows = [[dict(zip(at, (value for _, value in line.points), strict=True)).get(each, 0.0) for each in every]
                for at, line in zip(times, lines, strict=True)]  # fmt: skip
        axes.stackplot(every, rows, labels=[line.name for line in lines], alpha=0.6)
    else:
        for at, line in zip(times, lines, strict=True):
            axes.plot(at, [value for _, value in line.points], label=line.name, marker=".", markersize=3)
    axes.set_xlim(-SECONDS, 0)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} s"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.set_ylabel(UNITS[panel.unit], fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=4, loc="upper left", bbox_to_anchor=(-0.02, -0.11), frameon=False)


def dashboard(answers: list[tuple[Panel, list[Line]]], path: Path, now: float) -> None:
    """All of them, each at its place."""
    rows = max(panel.y + panel.height for panel, _ in answers)
    width, height = COLUMNS * CELL_WIDTH, rows * CELL_HEIGHT
    figure = plt.figure(figsize=(width, height), dpi=80)
    for panel, lines in answers:
        assert lines, f"{panel.title} is empty"
        left, top = panel.x * CELL_WIDTH + LEFT, panel.y * CELL_HEIGHT + TOP
        wide = panel.width * CELL_WIDTH - LEFT - RIGHT
        high = panel.height * CELL_HEIGHT - TOP - (BOTTOM if panel.kind != "stat" else 0.1)
        place = (left / width, 1 - (top + high) / height, wide / width, high / height)
        draw(panel, lines, figure.add_axes(place), now)
    figure.savefig(path)
    plt.close(figure)


def main() -> int:
    """Returns the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = repository(Path(sys.argv[1]), folder / "models", unknown="colour")
        with (
            under_traffic(models) as (process, _),
            prometheus([process.metrics_port], folder, lookback=LOOKBACK) as running,
        ):
            page = f"http://127.0.0.1:{process.metrics_port}/"
            for _ in range(int(SECONDS / 10) + 1):
                urllib.request.urlopen(page, timeout=60).close()
                time.sleep(10)
            now = time.time()
            answers = [(panel, lines_of(panel, running, seconds=SECONDS, now=now)) for panel in panels()]
            dashboard(answers, PICTURES / "dashboard.png", now)
            chromium.picture(page, PICTURES / "status-page.png", width=1280, height=1790)
    return 0


if __name__ == "__main__":
    sys.exit(main())
