"""What graphs of several values ahead have in common."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import onnx

from export.artifact.manifest import WINDOW, Graph, Tensor
from export.graph import GraphBuilder
from export.lowering import head
from export.lowering.source import Source


def why_not_rolled(source: Source) -> str:
    """Why no graph can read what it has said; empty where one can."""
    config = source.config
    if config.num_features > 1 or config.calendar:
        return "covariates and times to come are not known to a graph"
    return "one run gives several values already" if config.horizon > 1 else ""


def without_intervals(source: Source) -> Source:
    """The same model, less what a rollout does not give."""
    return replace(source, config=msgspec.structs.replace(source.config, intervals="none", levels=()))


def rollout_graph(
    g: GraphBuilder, source: Source, lowering: str, said: Sequence[str], *, length: int, unit: str | None
) -> tuple[Graph, onnx.ModelProto]:
    """The graph that gives what was said, in raw units and in pieces [B, …], as `next` [B, R], and the `unit`."""
    g.op("Concat", *said, axis=1, output="next")
    if unit is not None:
        g.op("Identity", unit, output="unit")
    graph = Graph(
        file=f"graphs/{lowering}.onnx",
        lowering=lowering,
        inputs=[
            Tensor(name=WINDOW, shape=["batch", source.config.window, 1]),
            *head.context_inputs(source, source.config.window),
        ],
        outputs=[
            msgspec.structs.replace(tensor, shape=["batch", length]) if tensor.name == "next" else tensor
            for tensor in head.outputs(source)
            if tensor.name in ("next", "unit")
        ],
    )
    return graph, g.model(lowering, graph.inputs, graph.outputs)
