"""What every graph of a window is made of around its recurrence.

x_1 … x_T = [encode(window); calendar(time_seconds)]
h_1 … h_T = recurrence(x_1 … x_T)                         what lowerings write in different ways
next = decode(head(h_T) + what is linear in x_1 … x_T, where the model has that)
"""

from collections.abc import Callable
from typing import NamedTuple

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import calendar, head, linear_skip, recent_error, scaling, transforms
from export.lowering.folding import folded
from export.lowering.source import Source


class Recurred(NamedTuple):
    """The top outputs: `last` [B, H], and `earlier` writes and names all before it, [(T - 1) * B, H], oldest first."""

    last: str
    earlier: Callable[[], str]


# From what the cells read, [B, T, I].
Recurrence = Callable[[GraphBuilder, Source, str], Recurred]


def window_graph(
    source: Source, recurrence: Recurrence, *, lowering: str, file: str, fold: bool = True
) -> tuple[Graph, onnx.ModelProto]:
    """`window` [B, T, F] (and `time_seconds` [B, T], `series` [B, 1]) → `next` [B, K] and what `head.outputs` lists.

    `fold` off leaves the standardising beside the recurrence, for comparison.
    """
    if fold:
        source = folded(source)
    config = source.config
    g = GraphBuilder(source.weights)
    write_window(g, source, recurrence, "window")
    graph = Graph(
        file=file,
        lowering=lowering,
        inputs=[
            Tensor(name="window", shape=["batch", config.window, config.num_features]),
            *head.context_inputs(source, config.window),
        ],
        outputs=head.outputs(source),
    )
    return graph, g.model(lowering, graph.inputs, graph.outputs)


def write_window(g: GraphBuilder, source: Source, recurrence: Recurrence, window: str) -> None:
    """All nodes from `window` [B, T, F] to the outputs, which are named as `g` names them."""
    config = source.config
    ruler = scaling.ruler(g, config.scaling, window=window, num_steps=config.window, num_series=config.num_series)
    ruled = scaling.rule(g, ruler, window)
    x, anchor = transforms.encode_window(g, source, ruled)
    x = calendar.with_channels(g, config.calendar, x)
    outputs = recurrence(g, source, x)
    lately = None
    if config.intervals == "normalized":
        lately = recent_error.of_window(g, source, ruled, outputs.earlier(), linear_skip.before_last(g, source, x))
    linear = linear_skip.after_last(g, source, x)
    head.decode(g, source, outputs.last, anchor=anchor, ruler=ruler, recent=lately, linear=linear)
