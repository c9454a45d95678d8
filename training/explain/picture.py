"""A trace as one picture: what went in, what the gates said, how far back the loss reaches.

    values and prediction    | what the cells read
    gates of the top cell    | its deciding gate, unit by unit        and so on down to the bottom cell
    ‖∂loss/∂state‖           | the top layer's memory, unit by unit

Shapes: T window, H hidden size, K horizons.
"""

import math
from typing import Any

import msgspec
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.cells import LSTMCell, RNNCell
from training.explain.trace import Array, CellTrace, Trace

# A line for each gate: its colour and, for the legend, what it decides.
GATE_LINES = {
    "forget gate": ("tab:blue", "kept"),
    "input gate": ("tab:green", "written"),
    "output gate": ("tab:purple", "shown"),
    "update gate": ("tab:blue", "replaced"),
    "reset gate": ("tab:green", "past seen by the new"),
}
BAND = (10, 90)
LAYER_COLOURS = ("tab:blue", "tab:green", "tab:purple", "tab:brown", "tab:olive", "tab:cyan")
# Letters that a line of a legend holds, what an entry's handle takes of them, and the height of a line as a share of
# what the legend stands over.
LEGEND_LETTERS, HANDLE_LETTERS, LEGEND_ROOM = 90, 8, 0.18
# Lines in one panel that can still be told apart.
MOST_INPUTS = 6
PANEL_INCHES = (6.5, 2.7)


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What the picture says beside the numbers.

    `cell` is the kind, `features` the columns with the target first, `inputs` the channels that the cells read,
    `window` says which window of what this is, `levels` what shares the intervals shall hold.
    """

    cell: str
    features: tuple[str, ...]
    inputs: tuple[str, ...]
    transform: str
    window: str
    levels: tuple[float, ...]


def explain_picture(trace: Trace, words: Words) -> Figure:
    """The picture; see the top of this file."""
    cells = trace.cells[::-1]
    num_rows = 2 + len(cells)
    figure = Figure(figsize=(2 * PANEL_INCHES[0], num_rows * PANEL_INCHES[1]), layout="constrained")
    panels = figure.subplots(num_rows, 2, sharex=True)
    steps_T = np.arange(1.0 - len(trace.window), 1.0)
    _values(panels[0, 0], steps_T, trace, words)
    _inputs(panels[0, 1], steps_T, trace.inputs, words)
    for (left, right), cell in zip(panels[1:-1], cells, strict=True):
        _gates(left, steps_T, cell)
        _deciding_gate(right, steps_T, cell)
    _gradients(panels[-1, 0], steps_T, trace)
    _memory(panels[-1, 1], steps_T, cells[0])
    for panel in panels[-1]:
        panel.set_xlabel("steps before the prediction is made (0: the last value seen)")
    panels[0, 0].set_xlim(steps_T[0] - 0.5, len(trace.truth) + 0.5)
    figure.suptitle(
        f"{words.cell}: {words.window}\nloss: the squared error of this prediction, in scaled units: {trace.loss:.3g}"
    )
    return figure


def _values(panel: Any, steps_T: Array, trace: Trace, words: Words) -> None:
    ahead_K = np.arange(1, len(trace.truth) + 1)
    panel.set_title("the window, in the target's own units")
    panel.plot(steps_T, trace.window[:, 0], color="black", marker=".", markersize=3, linewidth=1.2, label="window")
    panel.plot(ahead_K, trace.truth, "o", color="black", markerfacecolor="white", label="truth")
    panel.plot(ahead_K, trace.prediction, "x", color="tab:orange", markeredgewidth=2, label="prediction")
    if trace.lower is not None and trace.upper is not None:
        ends = (trace.lower[:, -1], trace.upper[:, -1])
        share = f"{words.levels[-1]:.0%} interval"
        panel.vlines(ahead_K, *ends, color="tab:orange", alpha=0.5, linewidth=3, label=share)
    panel.set_ylabel(words.features[0])
    _legend_above(panel)


def _inputs(panel: Any, steps_T: Array, inputs_TI: Array, words: Words) -> None:
    panel.set_title(f"what the cells read ({words.transform})")
    shown = words.inputs[:MOST_INPUTS]
    for name, channel_T in zip(shown, inputs_TI.T, strict=False):
        is_target = name == words.inputs[0]
        panel.plot(
            steps_T,
            channel_T,
            linewidth=1.2 if is_target else 0.9,
            label=name,
            **({"color": "black"} if is_target else {}),
        )
    if len(words.inputs) > len(shown):
        panel.plot([], [], " ", label=f"and {len(words.inputs) - len(shown)} more")
    panel.axhline(0, color="0.7", linewidth=0.6)
    panel.set_ylabel("scaled units")
    _legend_above(panel)


def _named(what: str, cell: CellTrace) -> str:
    return f"{what}, {cell.label}" if cell.label else what


def _gates(panel: Any, steps_T: Array, cell: CellTrace) -> None:
    if isinstance(cell.cell, RNNCell):
        lines = {"|h|": (np.abs(cell.memory), "tab:red", "at 1 tanh passes nothing back")}
        title, unit = "saturation (no gates)", "|h| (0 to 1)"
    else:
        lines = {name: (cell.gates[name], *GATE_LINES[name]) for name in GATE_LINES if name in cell.gates}
        title, unit = "gates", "gate (0 shut, 1 open)"
    panel.set_title(_named(f"{title}: mean of the units, band {BAND[0]} to {BAND[1]} %", cell))
    for name, (gate_TH, colour, meaning) in lines.items():
        low_T, high_T = np.percentile(gate_TH, BAND, axis=1)
        panel.fill_between(steps_T, low_T, high_T, color=colour, alpha=0.12, linewidth=0)
        for edge_T in (low_T, high_T):
            panel.plot(steps_T, edge_T, color=colour, alpha=0.5, linewidth=0.6)
        panel.plot(steps_T, gate_TH.mean(axis=1), color=colour, linewidth=1.5, label=f"{name}: {meaning}")
    panel.set_ylim(-0.03, 1.03)
    panel.set_yticks((0, 0.25, 0.5, 0.75, 1))
    panel.set_ylabel(unit)
    _legend_above(panel)


def _deciding_gate(panel: Any, steps_T: Array, cell: CellTrace) -> None:
    """The gate that decides about the memory, light where it is kept."""
    if isinstance(cell.cell, RNNCell):
        gate_TH, name, unit, colours = np.abs(cell.memory), "saturation", "|h|", "viridis_r"
    elif isinstance(cell.cell, LSTMCell):
        gate_TH, name, unit, colours = cell.gates["forget gate"], "forget gate", "share of the memory kept", "viridis"
    else:
        gate_TH, name, unit, colours = cell.gates["update gate"], "update gate", "share replaced", "viridis_r"
    panel.set_title(_named(f"{name}, unit by unit", cell))
    _units(panel, steps_T, gate_TH, unit, cmap=colours, vmin=0, vmax=1)


def _memory(panel: Any, steps_T: Array, cell: CellTrace) -> None:
    name = "c" if isinstance(cell.cell, LSTMCell) else "h"
    reach = float(np.abs(cell.memory).max()) or 1.0
    panel.set_title(_named(f"memory {name}, unit by unit", cell))
    _units(panel, steps_T, cell.memory, f"memory {name} (no unit)", cmap="RdBu_r", norm=TwoSlopeNorm(0, -reach, reach))


def _units(panel: Any, steps_T: Array, values_TH: Array, unit: str, **colours: Any) -> None:
    """One row for each hidden unit, those with the greatest mean on top."""
    order_H = np.argsort(values_TH.mean(axis=0))
    edges = (steps_T[0] - 0.5, steps_T[-1] + 0.5, 0.5, values_TH.shape[1] + 0.5)
    image = panel.imshow(
        values_TH[:, order_H].T, aspect="auto", origin="lower", interpolation="nearest", extent=edges, **colours
    )
    panel.set_ylabel("hidden unit, by its mean")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.figure.colorbar(image, ax=panel, label=unit, pad=0.01)


def _gradients(panel: Any, steps_T: Array, trace: Trace) -> None:
    panel.set_title("how far back the loss reaches")
    several = len(trace.gradients) > 1
    drawn: list[Array] = []
    for k, layer in enumerate(trace.gradients):
        colour = LAYER_COLOURS[k % len(LAYER_COLOURS)]
        where = f", {layer.label}" if several else ""
        drawn.append(layer.h)
        panel.plot(steps_T, _positive(layer.h), color=colour, linewidth=1.5, label=f"‖∂loss/∂h‖{where}")
        if layer.c is not None:
            drawn.append(layer.c)
            panel.plot(
                steps_T, _positive(layer.c), color=colour, linestyle="--", linewidth=1.5, label=f"‖∂loss/∂c‖{where}"
            )
    if any((line > 0).any() for line in drawn):
        panel.set_yscale("log")
    else:
        panel.text(0.5, 0.5, "no error, no gradient", transform=panel.transAxes, ha="center")
    panel.set_ylabel("length of the gradient (log)")
    panel.grid(axis="y", color="0.9")
    _legend_above(panel)


def _positive(norm_T: Array) -> Array:
    """What a logarithm can show; the rest is left out."""
    return np.where(norm_T > 0, norm_T, np.nan)


def _legend_above(panel: Any) -> None:
    """A legend over the values, in room made for it."""
    entries = panel.get_legend_handles_labels()[1]
    widest = max(map(len, entries)) + HANDLE_LETTERS
    num_columns = min(len(entries), max(1, LEGEND_LETTERS // widest))
    room = LEGEND_ROOM * math.ceil(len(entries) / num_columns)
    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** room if panel.get_yscale() == "log" else high + room * (high - low))
    panel.legend(loc="upper center", fontsize=8, ncols=num_columns, framealpha=0.9)
