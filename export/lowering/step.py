"""step.onnx: the hand-written step once, state in and state out.

    x, anchor = encode(value, transform state)
    s' = step([x; calendar(time_seconds)], s)
    next = decode(head(h'), anchor)

State tensors are called `initial_<field>.<layer>` and `final_<field>.<layer>`; the difference transforms add
`initial_last`, `initial_seen` and their final ones, normalized intervals `forecast`, `excess` and `has_forecast`. All
zeros mean that nothing was seen.
"""

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import calendar, head, recent_error, scaling, transforms
from export.lowering.cells import State, stack_step, state_fields
from export.lowering.source import Source

FILE = "step.onnx"


def step(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """`value` [B, F] (and `time_seconds` [B, 1], `series` [B, 1]) and state → what `head.outputs` lists, and state."""
    config = source.config
    g = GraphBuilder(source.weights)
    fields = state_fields(source)
    widths = {f"{field}.{k}": config.hidden_size for k, names in enumerate(fields) for field in names}
    carried = {"last": config.num_features, "seen": 1} if source.carries_last else {}
    judged = dict.fromkeys(recent_error.STATE, 1) if config.intervals == "normalized" else {}

    ruler = scaling.ruler(g, config.scaling, window="value", num_steps=1, num_series=config.num_series)
    ruled = "value"
    if ruler is not None:
        ruled = g.op("Squeeze", scaling.rule(g, ruler, g.op("Unsqueeze", "value", g.ints(1))), g.ints(1))
    x, anchor = transforms.encode_value(g, source, ruled, {name: f"initial_{name}" for name in carried})
    if config.calendar:
        x = calendar.with_channels(g, config.calendar, g.op("Unsqueeze", x, g.ints(1)))
        x = g.op("Squeeze", x, g.ints(1))
    before: list[State] = [tuple(f"initial_{field}.{k}" for field in names) for k, names in enumerate(fields)]
    h, after = stack_step(g, source, x, before)
    stepped = recent_error.of_value(g, source, ruled)
    lately = None if stepped is None else stepped.recent_error
    said = head.decode(g, source, h, anchor=anchor, ruler=ruler, recent=lately)
    for k, (names, state) in enumerate(zip(fields, after, strict=True)):
        for field, value in zip(names, state, strict=True):
            g.op("Identity", value, output=f"final_{field}.{k}")
    if carried:
        g.op("Identity", ruled, output="final_last")
        _ones(g, "initial_seen", output="final_seen")
    if stepped is not None:
        g.op("Slice", said, g.ints(0), g.ints(1), g.ints(1), output="final_forecast")
        g.op("Identity", stepped.excess, output="final_excess")
        _ones(g, "initial_has_forecast", output="final_has_forecast")

    widths |= carried | judged
    graph = Graph(
        file=FILE,
        lowering="step",
        inputs=[
            Tensor(name="value", shape=["batch", config.num_features]),
            *head.context_inputs(source, 1),
            *(Tensor(name=f"initial_{name}", shape=["batch", width]) for name, width in widths.items()),
        ],
        outputs=[
            *head.outputs(source),
            *(Tensor(name=f"final_{name}", shape=["batch", width]) for name, width in widths.items()),
        ],
    )
    return graph, g.model("step", graph.inputs, graph.outputs)


def _ones(g: GraphBuilder, like: str, *, output: str) -> None:
    g.op("Add", g.op("Mul", like, g.scalar(0.0)), g.scalar(1.0), output=output)
