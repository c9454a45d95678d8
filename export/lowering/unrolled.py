"""Unrolled: the hand-written step, written out once for each of the T values.

    s_1 = step(x_1, 0);  s_t = step(x_t, s_{t-1})

The first step has no state to multiply by, so it is written without. Nodes grow with T; weights are stored once, and
the few of their columns that read the input once more. No RNN, LSTM, GRU, Loop or Scan node.
"""

from collections.abc import Sequence

import onnx

from export.artifact.manifest import Graph
from export.graph import GraphBuilder
from export.lowering.cells import State, stack_step
from export.lowering.layout import Rows
from export.lowering.source import Source
from export.lowering.window import Recurred, window_graph

FILE = "window.onnx"

# Longer windows have graphs with chunks of it, and with recurrent nodes.
LONGEST_UNROLLED = 256


def unrolled(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """The window graph without recurrent or control-flow nodes."""
    return window_graph(source, unrolled_steps, lowering="unrolled", file=FILE)


def unrolled_steps(g: GraphBuilder, source: Source, x: str) -> Recurred:
    """The recurrence from what the cells read, [B, T, I]."""
    read = values(g, g.op("Transpose", x, perm=[1, 0, 2]), source.config.window)
    outputs, _ = steps(Rows(g, read[0]), source, read, None)
    return Recurred(outputs[-1], lambda: together(g, outputs[:-1]))


def steps(
    g: GraphBuilder, source: Source, values: Sequence[str], before: Sequence[State] | None
) -> tuple[list[str], list[State]]:
    """One step for each value [B, I]: the top outputs [B, H], and the states after the last; `before` None is zero."""
    states: Sequence[State | None] = before or [None] * source.config.num_layers
    outputs: list[str] = []
    after: list[State] = []
    for value in values:
        h, after = stack_step(g, source, value, states)
        outputs.append(h)
        states = after
    return outputs, after


def values(g: GraphBuilder, x_TBI: str, count: int) -> list[str]:
    """What is read at each of `count` steps, [B, I]."""
    slices = g.multi_op(
        "Split", x_TBI, outputs=[g.named(f"slice_{t}") for t in range(count)], axis=0, num_outputs=count
    )
    return [g.op("Squeeze", piece, g.ints(0)) for piece in slices]


def together(g: GraphBuilder, outputs: list[str]) -> str:
    """[T, B, H] as [T * B, H]."""
    return outputs[0] if len(outputs) == 1 else g.op("Concat", *outputs, axis=0)
