"""step.onnx: the hand-written step once, state in and state out.

    x, anchor = encode(value, transform state)
    s' = step(x, s)
    next = decode(head(h'), anchor)

State tensors are called `initial_<field>.<layer>` and `final_<field>.<layer>`; the difference transform adds
`initial_last`, `initial_seen` and their final ones. All zeros mean that nothing was seen.
"""

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import transforms
from export.lowering.cells import STATE_FIELDS, State, stack_step
from export.lowering.source import Source

FILE = "step.onnx"


def step(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """`value` [B, F] and state → `next` [B, 1] and state."""
    config = source.config
    g = GraphBuilder(source.weights)
    fields = [STATE_FIELDS[type(cell)] for cell in source.cells]
    widths = {f"{field}.{k}": config.hidden_size for k, names in enumerate(fields) for field in names}
    carried = {"last": config.num_features, "seen": 1} if config.transform == "difference" else {}

    x, anchor = transforms.encode_value(g, config.transform, "value", {name: f"initial_{name}" for name in carried})
    before: list[State] = [tuple(f"initial_{field}.{k}" for field in names) for k, names in enumerate(fields)]
    h, after = stack_step(g, source.cells, x, before)
    transforms.decode(g, h, anchor, "next")
    for k, (names, state) in enumerate(zip(fields, after, strict=True)):
        for field, value in zip(names, state, strict=True):
            g.op("Identity", value, output=f"final_{field}.{k}")
    if carried:
        g.op("Identity", "value", output="final_last")
        g.op("Add", g.op("Mul", "initial_seen", g.scalar(0.0)), g.scalar(1.0), output="final_seen")

    widths |= carried
    graph = Graph(
        file=FILE,
        lowering="step",
        inputs=[
            Tensor(name="value", shape=["batch", config.num_features]),
            *(Tensor(name=f"initial_{name}", shape=["batch", width]) for name, width in widths.items()),
        ],
        outputs=[
            Tensor(name="next", shape=["batch", 1], scale=source.target_scale),
            *(Tensor(name=f"final_{name}", shape=["batch", width]) for name, width in widths.items()),
        ],
    )
    return graph, g.model("step", graph.inputs, graph.outputs)
