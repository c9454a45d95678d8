"""Sliding: the window graph written out R times, each behind the last.

    y_1 = window(x_1 … x_T);  y_2 = window(x_2 … x_T, y_1);  y_3 = window(x_3 … x_T, y_1, y_2);  …

The same arithmetic as R runs, without what lies between them. The windows could also run side by side, as the rows of
one step, in T + R - 1 steps: no faster for LSTM, and much slower to load (docs/log.md).
"""

import onnx

from export.artifact.manifest import SLIDING, WINDOW, Graph
from export.graph import END, GraphBuilder
from export.lowering.folding import folded
from export.lowering.fused import fusable, fused_layers
from export.lowering.rollout.common import rollout_graph, why_not_rolled, without_intervals
from export.lowering.source import Source
from export.lowering.unrolled import unrolled_steps
from export.lowering.window import write_window

# Where steps are written out: more of them take longer to load than they save.
MOST_STEPS = 256
# Beyond, what lies between runs is nothing beside them, and R of them take long to prove.
LONGEST_SLID = 128


def why_not_sliding(source: Source, length: int) -> str:
    """Why there is no such graph of `length` values; empty where there is one."""
    if source.config.window > LONGEST_SLID:
        return f"runs of {source.config.window} steps gain nothing from it"
    if not fusable(source) and source.config.window * length > MOST_STEPS:
        return f"{length} windows of {source.config.window} steps would be too many nodes"
    return why_not_rolled(source)


def sliding(source: Source, length: int) -> tuple[Graph, onnx.ModelProto]:
    """`window` [B, T, 1] (and `series` [B, 1]) → `next` [B, R], each from zero state on the last T values."""
    source = folded(without_intervals(source))
    recurrence = fused_layers if fusable(source) else unrolled_steps
    g = GraphBuilder(source.weights)
    window, said = WINDOW, []
    for k in range(length):
        part = g.part(f"value_{k + 1}")
        write_window(part, source, recurrence, window)
        said.append(part.named("next"))
        later = g.op("Slice", window, g.ints(1), g.ints(END), g.ints(1))
        window = g.op("Concat", later, g.op("Unsqueeze", said[-1], g.ints(2)), axis=1)
    unit = None if source.config.scaling == "fit" else g.part("value_1").named("unit")
    return rollout_graph(g, source, SLIDING, said, length=length, unit=unit)
