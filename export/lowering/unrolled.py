"""window.onnx by unrolling: the hand-written step, written out once for each of the T values.

    x_1 … x_T = split(encode(window))
    s_0 = 0;  s_t = step(x_t, s_{t-1})
    next = decode(head(h_T))

Nodes grow with T; weights are stored once. No RNN, LSTM, GRU, Loop or Scan node.
"""

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import transforms
from export.lowering.cells import STATE_FIELDS, State, stack_step
from export.lowering.source import Source

FILE = "window.onnx"


def unrolled(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """`window` [B, T, F] → `next` [B, 1]."""
    config = source.config
    g = GraphBuilder(source.weights)
    x, anchor = transforms.encode_window(g, config.transform, "window", config.window)
    slices = g.multi_op(
        "Split", x, outputs=[f"slice_{t}" for t in range(config.window)], axis=1, num_outputs=config.window
    )
    values = [g.op("Squeeze", piece, g.ints(1)) for piece in slices]
    # Of the raw window, which is finite; a scaled value may have overflowed.
    first = g.op("Slice", "window", g.ints(0, 0), g.ints(1, 1), g.ints(1, 2))
    zeros = g.zeros(g.op("Squeeze", first, g.ints(1)), config.hidden_size)
    states: list[State] = [(zeros,) * len(STATE_FIELDS[type(cell)]) for cell in source.cells]
    h = zeros
    for value in values:
        h, states = stack_step(g, source.cells, value, states)
    transforms.decode(g, h, anchor, "next")

    graph = Graph(
        file=FILE,
        lowering="unrolled",
        inputs=[Tensor(name="window", shape=["batch", config.window, config.num_features])],
        outputs=[Tensor(name="next", shape=["batch", 1], scale=source.target_scale)],
    )
    return graph, g.model("window", graph.inputs, graph.outputs)
