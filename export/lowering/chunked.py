"""Chunked: for long windows, a Scan over chunks of CHUNK steps, each chunk written out as `unrolled` does.

    s = steps(x_1 … x_r, 0)                        r steps come first, so that whole chunks are left
    s = steps(x_{t+1} … x_{t+CHUNK}, s)            the body of the Scan, once for each chunk

Nodes do not grow with T, which would make a graph of ten thousands of them slow to load. A step of its own in the Scan
would cost its bookkeeping T times, and on a GPU a wait of the host each time; a chunk pays it T / CHUNK times.
"""

from typing import Literal

import onnx

from export.artifact.manifest import Graph, Tensor
from export.graph import GraphBuilder
from export.lowering.cells import State, state_fields
from export.lowering.layout import Rows
from export.lowering.source import Source
from export.lowering.unrolled import FILE, LONGEST_UNROLLED, steps, together, values
from export.lowering.window import Recurred, window_graph

CHUNK = 32
# From here on chunks may be faster than all steps written out, as a chunk's nodes and values stay in the caches.
SHORTEST_CHUNKED = 64
CHUNKED_FILE = "graphs/chunked.onnx"

# The top output after the last step, which residual layers add up.
TOP = "top"


def chunked(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """The window graph with one chunk of the recurrence written out."""
    is_long = source.config.window > LONGEST_UNROLLED
    return window_graph(source, _chunks, lowering="chunked", file=FILE if is_long else CHUNKED_FILE)


def _chunks(g: GraphBuilder, source: Source, x: str) -> Recurred:
    config = source.config
    num_first = config.window % CHUNK or CHUNK
    num_chunks = (config.window - num_first) // CHUNK
    x_TBI = g.op("Transpose", x, perm=[1, 0, 2])
    first = g.op("Slice", x_TBI, g.ints(0), g.ints(num_first), g.ints(0))
    read = values(g, first, num_first)
    outputs, states = steps(Rows(g, read[0]), source, read, None)
    rest = g.op("Slice", x_TBI, g.ints(num_first), g.ints(config.window), g.ints(0))
    rest = g.op("Reshape", rest, g.ints(num_chunks, CHUNK, -1, config.input_size))

    needs_all = config.intervals == "normalized"
    names = [f"{field}.{k}" for k, fields in enumerate(state_fields(source)) for field in fields]
    carried = [*(value for state in states for value in state), outputs[-1]]
    after = g.multi_op(
        "Scan",
        *carried,
        rest,
        outputs=[f"last_{name}" for name in (*names, TOP)] + ["every"] * needs_all,
        body=_body(g, source, names, needs_all=needs_all),
        num_scan_inputs=1,
    )

    def earlier() -> str:
        later = g.op("Reshape", after[-1], g.ints(num_chunks * CHUNK, -1, config.hidden_size))
        later = g.op("Slice", later, g.ints(0), g.ints(-1), g.ints(0))
        return together(g, [*outputs, g.op("Reshape", later, g.ints(-1, config.hidden_size))])

    return Recurred(after[len(names)], earlier)


def _tensor(name: str, *shape: int | Literal["batch"]) -> Tensor:
    return Tensor(name=name, shape=list(shape))


def _body(g: GraphBuilder, source: Source, names: list[str], *, needs_all: bool) -> onnx.GraphProto:
    """A chunk: the states, the top output and what the cells read, [CHUNK, B, I], to the same after it.

    With `needs_all` also all top outputs, [CHUNK, B, H].
    """
    config = source.config
    body = g.body("chunk")
    fields = iter(f"before_{name}" for name in names)
    states: list[State] = [tuple(next(fields) for _ in layer) for layer in state_fields(source)]
    read = values(body, "chunk", CHUNK)
    outputs, after = steps(Rows(body, read[0]), source, read, states)
    given = [*(value for state in after for value in state), outputs[-1]]
    for name, value in zip((*names, TOP), given, strict=True):
        body.op("Identity", value, output=f"after_{name}")
    if needs_all:
        body.op("Reshape", together(body, outputs), body.ints(CHUNK, -1, config.hidden_size), output="chunk_every")

    hidden = config.hidden_size
    return body.graph(
        "chunk",
        [
            *(_tensor(f"before_{name}", "batch", hidden) for name in (*names, TOP)),
            _tensor("chunk", CHUNK, "batch", config.input_size),
        ],
        [
            *(_tensor(f"after_{name}", "batch", hidden) for name in (*names, TOP)),
            *[_tensor("chunk_every", CHUNK, "batch", hidden)] * needs_all,
        ],
    )
