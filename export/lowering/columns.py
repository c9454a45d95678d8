"""Columns: the unrolled steps with a window in each column, where `unrolled` has one in each row.

    s_1 = step(x_1, 0);  s_t = step(x_t, s_{t-1})          all of them transposed

A product is computed in blocks of LANES columns, and what does not fill the last block is computed for nothing. Rows
have H columns, of 50 that is a fifth; here they are the windows, of which a batch worth its while has many. In return
the states are packed for every product, as the weights are once: where H fills its blocks, nothing is won.
"""

import onnx

from export.artifact.manifest import Graph
from export.graph import GraphBuilder
from export.lowering.layout import Columns
from export.lowering.source import Source
from export.lowering.unrolled import LONGEST_UNROLLED, steps, values
from export.lowering.window import Recurred, window_graph

NAME, FILE = "columns", "graphs/columns.onnx"

# Of the inner loop of onnxruntime's products on x86-64.
LANES = 16


def leaves_lanes_empty(source: Source) -> bool:
    """Whether rows leave lanes empty, and the window can be written out."""
    config = source.config
    return config.hidden_size % LANES != 0 and config.window <= LONGEST_UNROLLED


def columns(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """The window graph whose states have a window in each column."""
    return window_graph(source, _steps, lowering="columns", file=FILE)


def _steps(g: GraphBuilder, source: Source, x: str) -> Recurred:
    read = values(g, g.op("Transpose", x, perm=[1, 2, 0]), source.config.window)
    outputs, _ = steps(Columns(g, read[0]), source, read, None)

    def earlier() -> str:
        stacked = g.op("Concat", *(g.op("Unsqueeze", h, g.ints(0)) for h in outputs[:-1]), axis=0)
        rows = g.op("Transpose", stacked, perm=[0, 2, 1])
        return g.op("Reshape", rows, g.ints(-1, source.config.hidden_size))

    return Recurred(g.op("Transpose", outputs[-1], perm=[1, 0]), earlier)
