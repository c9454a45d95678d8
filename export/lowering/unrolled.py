"""window.onnx by unrolling: the hand-written step, written out once for each of the T values.

    x_1 … x_T = split([encode(window); calendar(time_seconds)])
    s_1 = step(x_1, 0);  s_t = step(x_t, s_{t-1})
    next = decode(head(h_T) + what is linear in x_1 … x_T, where the model has that)

The first step has no state to multiply by, so it is written without. Nodes grow with T; weights are stored once, and
the few of their columns that read the input once more. No RNN, LSTM, GRU, Loop or Scan node.
"""

from collections.abc import Sequence

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import calendar, head, recent_error, scaling, transforms
from export.lowering.cells import State, stack_step
from export.lowering.source import Source

FILE = "window.onnx"


def unrolled(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """`window` [B, T, F] (and `time_seconds` [B, T], `series` [B, 1]) → `next` [B, K] and what `head.outputs` lists."""
    config = source.config
    g = GraphBuilder(source.weights)
    ruler = scaling.ruler(g, config.scaling, window="window", num_steps=config.window, num_series=config.num_series)
    ruled = scaling.rule(g, ruler, "window")
    x, anchor = transforms.encode_window(g, config.transform, ruled, config.window)
    x = calendar.with_channels(g, config.calendar, x)
    slices = g.multi_op(
        "Split", x, outputs=[f"slice_{t}" for t in range(config.window)], axis=1, num_outputs=config.window
    )
    values = [g.op("Squeeze", piece, g.ints(1)) for piece in slices]
    states: Sequence[State | None] = [None] * config.num_layers
    outputs = []
    for value in values:
        h, states = stack_step(g, source, value, states)
        outputs.append(h)
    lately = recent_error.of_window(g, source, ruled, outputs[:-1])
    linear = None
    if config.linear_skip:
        linear = g.op("MatMul", g.op("Flatten", x), g.weight("linear_skip"))
    head.decode(g, source, h, anchor=anchor, ruler=ruler, recent=lately, linear=linear)

    graph = Graph(
        file=FILE,
        lowering="unrolled",
        inputs=[
            Tensor(name="window", shape=["batch", config.window, config.num_features]),
            *head.context_inputs(source, config.window),
        ],
        outputs=head.outputs(source),
    )
    return graph, g.model("window", graph.inputs, graph.outputs)
