"""How good a model is, on one page: what it said, how far it was off, and who else was how far off.

Shapes: P origins of the stretch, N horizons, L interval levels.
"""

from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.backtest import Judged, Report, Stretch

OURS = "tab:orange"
ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "frameon": False}
BASELINE_COLOURS = ("0.6", "tab:blue", "tab:green", "tab:purple", "tab:red", "tab:brown")


def backtest_picture(judged: Judged) -> Figure:
    """Truth, prediction and interval; errors; RMSE of each row; and, with more than one horizon, how it grows."""
    report, stretch = judged.report, judged.stretch
    has_horizons = report.protocol.horizon > 1
    figure = Figure(figsize=(11, 11 if has_horizons else 8.5), layout="constrained")
    rows: Any = figure.subfigures(3 if has_horizons else 2, 1, height_ratios=(5, 3, 3) if has_horizons else (5, 2.6))
    above, below = rows[0].subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
    _draw_stretch(above, report, stretch)
    _draw_errors(below, report, stretch)
    if has_horizons:
        left, right = rows[1].subplots(1, 2)
        _draw_trajectory(left, report, stretch)
        _draw_horizons(right, report)
    left, right = rows[-1].subplots(1, 2, sharey=True, width_ratios=(1, 1) if report.protocol.levels else (1, 0.001))
    _draw_rows(left, report)
    _draw_coverage(right, report)
    figure.suptitle(_title(report))
    return figure


def _title(report: Report) -> str:
    protocol = report.protocol
    skill = report.rows[0].skill_vs_last_value
    told = "" if skill is None else f", skill {skill:.1%} against the last value"
    return f"{report.rows[0].name}, window {protocol.window}, {_ahead(report)}, {protocol.num_origins} origins{told}"


def _ahead(report: Report) -> str:
    horizon = report.protocol.horizon
    return "one step ahead" if horizon == 1 else f"1 to {horizon} steps ahead"


def _times(seconds: NDArray[np.int64]) -> list[datetime]:
    return [datetime.fromtimestamp(int(second), UTC) for second in seconds]


def _places(report: Report, stretch: Stretch) -> tuple[list[Any], str]:
    """Where each origin of the stretch stands on the x axis, and the axis' label."""
    count = len(stretch.targets_PN)
    which = f"the last {count} of {report.protocol.num_origins} origins"
    if stretch.series_id:
        which = f"series {stretch.series_id}, its last {count} origins"
    if stretch.time_seconds is not None:
        return _times(stretch.time_seconds), f"time, UTC ({which})"
    return list(range(1, count + 1)), f"row ({which})"


def _draw_stretch(axes: Any, report: Report, stretch: Stretch) -> None:
    ours = report.rows[0].name
    places, _ = _places(report, stretch)
    said = stretch.predictions[ours]
    if said.lower is not None and said.upper is not None:
        _draw_bands(axes, report, places, said.lower[:, 0], said.upper[:, 0])
    axes.plot(places, stretch.targets_PN[:, 0], color="black", linewidth=1.2, label="truth")
    axes.plot(places, said.next[:, 0], color=OURS, linewidth=1.2, label=f"{ours}, one step ahead")
    axes.set_ylabel(report.protocol.target)
    axes.legend(**ABOVE, ncols=4)


def _draw_bands(
    axes: Any, report: Report, places: Any, lower_PL: NDArray[np.float64], upper_PL: NDArray[np.float64]
) -> None:
    """The intervals of every level, the widest below the others."""
    levels = report.protocol.levels
    for column in reversed(range(len(levels))):
        look = {"color": OURS, "alpha": 0.5 - 0.3 * (column + 1) / len(levels)}
        told = f"{100 * levels[column]:.4g} % interval"
        ends = lower_PL[:, column], upper_PL[:, column]
        if len(lower_PL) == 1:
            axes.vlines(places, *ends, linewidth=8, label=told, **look)
        else:
            axes.fill_between(places, *ends, linewidth=0, label=told, **look)


def _draw_errors(axes: Any, report: Report, stretch: Stretch) -> None:
    places, label = _places(report, stretch)
    for name, colour in (("last value", BASELINE_COLOURS[0]), (report.rows[0].name, OURS)):
        errors_P = stretch.predictions[name].next[:, 0] - stretch.targets_PN[:, 0]
        axes.plot(places, errors_P, color=colour, linewidth=1, label=name)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_ylabel(f"prediction - truth,\n{report.protocol.target}")
    axes.set_xlabel(label)
    axes.legend(**ABOVE, ncols=2)


def _draw_trajectory(axes: Any, report: Report, stretch: Stretch) -> None:
    """All that was said from the last origin at once."""
    ours = report.rows[0].name
    ahead = np.arange(1, report.protocol.horizon + 1)
    said = stretch.predictions[ours]
    if said.lower is not None and said.upper is not None:
        _draw_bands(axes, report, ahead[: len(said.lower[-1])], said.lower[-1], said.upper[-1])
    axes.plot(ahead, stretch.targets_PN[-1], color="black", marker=".", label="truth")
    axes.plot(ahead, said.next[-1], color=OURS, marker=".", label=ours)
    if report.protocol.direct_horizon < report.protocol.horizon:
        axes.axvline(report.protocol.direct_horizon + 0.5, color="0.6", linestyle=":", label="fed back from here on")
    axes.set_xlabel("steps ahead of the last origin")
    axes.set_ylabel(report.protocol.target)
    axes.legend()


def _draw_horizons(axes: Any, report: Report) -> None:
    for row, colour in zip(report.rows, _colours(report), strict=True):
        ahead = [score.horizon for score in row.horizons]
        axes.plot(ahead, [score.rmse for score in row.horizons], color=colour, marker=".", label=row.name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("steps ahead")
    axes.set_ylabel(f"RMSE, {report.protocol.target}")
    axes.legend()


def _draw_rows(axes: Any, report: Report) -> None:
    """A bar for each row, the smallest error being the best."""
    bars = axes.barh([row.name for row in report.rows], [row.rmse for row in report.rows], color=_colours(report))
    labels = []
    for row in report.rows:
        mase = "" if row.mase is None else f", MASE {row.mase:.3g}"
        labels.append(f"{row.rmse:.4g} (MAE {row.mae:.4g}{mase})")
    axes.bar_label(bars, labels, padding=4)
    axes.set_xlim(right=2.7 * max(*(row.rmse for row in report.rows), 1e-300))
    axes.invert_yaxis()
    axes.set_xlabel(f"RMSE, {report.protocol.target}, {_ahead(report)}")


def _draw_coverage(axes: Any, report: Report) -> None:
    """Share of values inside beside what was promised; the mean width is written for the highest level."""
    levels = report.protocol.levels
    if not levels:
        axes.set_axis_off()
        return
    for level in levels:
        axes.axvline(100 * level, color="black", linestyle="--", linewidth=0.8, label=f"promised: {100 * level:.4g} %")
    for y, (row, colour) in enumerate(zip(report.rows, _colours(report), strict=True)):
        for each in row.intervals:
            axes.plot(100 * each.coverage, y, "o", color=colour)
        told = "no intervals"
        if row.intervals:
            told = f"{100 * row.intervals[-1].coverage:.1f} % inside, mean width {row.intervals[-1].mean_width:.4g}"
        axes.annotate(told, (1, y), xytext=(6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center")  # fmt: skip
    axes.tick_params(labelleft=False)
    axes.set_xlim(0, 102)
    axes.set_xlabel(f"values inside their interval, % (beside: at {100 * levels[-1]:.4g} %)")
    axes.legend(**ABOVE, ncols=3)


def _colours(report: Report) -> list[str]:
    return [OURS, *(BASELINE_COLOURS[i % len(BASELINE_COLOURS)] for i in range(len(report.rows) - 1))]
