"""Half: the recurrence in float16, unrolled; all around it in float32.

    x_t = float16(clip(encode(window)_t))              s_1 = step(x_1, 0);  s_t = step(x_t, s_{t-1})
    next = decode(float32(h_T))

Raw units stay float32: float16 has 11 bits, so of 30000 it knows one value in 16. What the cells read is standardised,
which is why nothing is folded into their weights here, and is clipped to float16's largest number: infinity times a
weight, less infinity times another, would be no number. States lie within 1 and c within the number of steps. Weights
are rounded once and stored in float16. Made on demand, for devices with float16 units; its tolerance is its own.
"""

import msgspec
import onnx

from export.artifact.manifest import Graph
from export.graph import GraphBuilder
from export.lowering.source import Source
from export.lowering.unrolled import steps, together, values
from export.lowering.window import Recurred, window_graph

NAME, FILE = "half", "graphs/half.onnx"


def half(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """The window graph whose cells compute in float16."""
    graph, proto = window_graph(source, _steps, lowering="half", file=FILE, fold=False)
    return msgspec.structs.replace(graph, precision="float16"), proto


def _steps(g: GraphBuilder, source: Source, x: str) -> Recurred:
    narrow = g.half()
    x_TBI = narrow.op("Transpose", g.cast_to_half(x), perm=[1, 0, 2])
    outputs, _ = steps(narrow, source, values(narrow, x_TBI, source.config.window), None)
    return Recurred(g.cast_to_float(outputs[-1]), lambda: g.cast_to_float(together(narrow, outputs[:-1])))
