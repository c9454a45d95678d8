"""Fused: a layer is one of ONNX's own recurrent nodes, which holds the loop over the T values.

    LSTM   gates in the order i, o, f, c               ours: input, output, forget, cell
    GRU    gates in the order z, r, h; keeps what ours replaces: h' = z * h + (1 - z) * n, so z's rows are negated
           reset before the matmul, or after it (linear_before_reset) with a bias of its own, R_bh
    RNN    tanh

W [1, gates * H, I] and R [1, gates * H, H] are the columns of our W that read the input and the state; a gate of ours
has one bias where ONNX adds two, so the second is zero. Nodes do not grow with T. onnxruntime's CUDA provider knows the
GRU with reset after alone.

Primed: the node multiplies by the zero state too, so the first step is written out without, as `unrolled` does, and
the node goes on from the state that it leaves. A step less is a share of 1 / T less: worth it in short windows alone.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from export.artifact.manifest import Graph
from export.graph import END, GraphBuilder
from export.lowering.cells import STATE_FIELDS, State
from export.lowering.source import Placed, Source
from export.lowering.unrolled import steps, together
from export.lowering.window import Recurred, window_graph
from training.cells import Cell, GRUCell, GRUResetAfterCell, LSTMCell, RNNCell

FILE, PRIMED_FILE = "graphs/fused.onnx", "graphs/primed.onnx"

# In longer windows what the first step saves drowns in what its nodes cost.
LONGEST_PRIMED = 16

Array = NDArray[np.float32]


class Gate(NamedTuple):
    """A gate of ours by name, and the sign that its weights take."""

    name: str
    sign: float = 1.0


class Node(NamedTuple):
    """ONNX's name of the node, its gates in its order, and its attributes."""

    op_type: str
    gates: tuple[Gate, ...]
    attributes: Mapping[str, int] = MappingProxyType({})


_GRU_GATES = (Gate("update_gate", -1.0), Gate("reset_gate"), Gate("hidden_candidate"))
NODES: dict[type[Cell], Node] = {
    RNNCell: Node("RNN", (Gate("hidden"),)),
    LSTMCell: Node("LSTM", (Gate("input_gate"), Gate("output_gate"), Gate("forget_gate"), Gate("cell_gate"))),
    GRUCell: Node("GRU", _GRU_GATES, {"linear_before_reset": 0}),
    GRUResetAfterCell: Node("GRU", _GRU_GATES, {"linear_before_reset": 1}),
}


def fusable(source: Source) -> bool:
    """Whether every layer is one cell: ONNX has no node for more in a step."""
    return all(len(cells) == 1 for cells in source.layers)


def fused(source: Source, *, fold: bool = True) -> tuple[Graph, onnx.ModelProto]:
    """The window graph with one recurrent node for each layer; `fold` as in `window_graph`."""
    return window_graph(source, fused_layers, lowering="fused", file=FILE, fold=fold)


def primed(source: Source) -> tuple[Graph, onnx.ModelProto]:
    """The fused graph behind a first step that is written out."""
    return window_graph(source, _primed_layers, lowering="primed", file=PRIMED_FILE)


def primable(source: Source) -> bool:
    """Whether steps are left to be fused behind the first, and few enough of them for one to matter."""
    return fusable(source) and 1 < source.config.window <= LONGEST_PRIMED


def fused_layers(g: GraphBuilder, source: Source, x: str) -> Recurred:
    """The recurrence from what the cells read, [B, T, I]."""
    return recurred(g, source, g.op("Transpose", x, perm=[1, 0, 2]), None)[0]


def _primed_layers(g: GraphBuilder, source: Source, x: str) -> Recurred:
    num_steps = source.config.window
    below = g.op("Transpose", x, perm=[1, 0, 2])
    first = g.op("Squeeze", g.op("Slice", below, g.ints(0), g.ints(1), g.ints(0)), g.ints(0))
    rest = g.op("Slice", below, g.ints(1), g.ints(num_steps), g.ints(0))
    (output,), states = steps(g, source, [first], None)
    before = [tuple(g.op("Unsqueeze", field, g.ints(0)) for field in state) for state in states]
    found, _ = recurred(g, source, rest, before)

    def earlier() -> str:
        return output if num_steps == 2 else together(g, [output, found.earlier()])

    return Recurred(found.last, earlier)


def recurred(
    g: GraphBuilder, source: Source, below: str, states: Sequence[State] | None, *, name: str = "layer"
) -> tuple[Recurred, list[State]]:
    """The layers' nodes on what the lowest of them reads, [T, B, I], and the states behind it.

    A state's fields are [1, B, H]; `states` before it, or None, which is zero. `name` tells nodes of one graph apart.
    """
    config = source.config
    last = every = ""
    after: list[State] = []
    for k, (placed,) in enumerate(source.layers):
        is_top = k == config.num_layers - 1
        adds = config.residual and k > 0
        needs_all = not is_top or adds or config.intervals == "normalized"
        before = None if states is None else states[k]
        every, state = _node(g, source, placed, below, f"{name}_{k}", before=before, needs_all=needs_all)
        after.append(state)
        last = state[0]
        if adds:
            every = g.op("Add", every, below)
            last = g.op("Slice", every, g.ints(-1), g.ints(END), g.ints(0))
        below = every

    def earlier() -> str:
        outputs = g.op("Slice", every, g.ints(0), g.ints(-1), g.ints(0))
        return g.op("Reshape", outputs, g.ints(-1, config.hidden_size))

    return Recurred(g.op("Squeeze", last, g.ints(0)), earlier), after


def _node(
    g: GraphBuilder, source: Source, placed: Placed, x: str, name: str, *, before: State | None, needs_all: bool
) -> tuple[str, State]:
    """The outputs of a layer, [T, B, H] (or ""), and its state, [1, B, H] each, from what it reads, [T, B, I]."""
    parts = zip("WRB", node_weights(source, placed), strict=True)
    weights = [g.constant(f"{placed.prefix}.{part}", array) for part, array in parts]
    return node(g, placed.cell, x, weights, before, name=name, needs_all=needs_all)


def node(
    g: GraphBuilder, cell: Cell, x: str, weights: Sequence[str], before: State | None, *, name: str, needs_all: bool
) -> tuple[str, State]:
    """One recurrent node on x [T, B, I], with W, R and B: all outputs [T, B, H] (or ""), and the state after."""
    kind, fields = NODES[type(cell)], STATE_FIELDS[type(cell)]
    # No sequence lengths: all windows are as long.
    initial = [] if before is None else ["", *before]
    every, *state = g.multi_op(
        kind.op_type,
        x,
        *weights,
        *initial,
        outputs=[g.named(f"{name}_every") if needs_all else "", *(g.named(f"{name}_{field}") for field in fields)],
        hidden_size=cell.hidden_size,
        **kind.attributes,
    )
    return g.op("Squeeze", every, g.ints(1)) if needs_all else "", tuple(state)


def node_weights(source: Source, placed: Placed) -> tuple[Array, Array, Array]:
    """W, R and B of a node."""
    hidden, kind = source.config.hidden_size, NODES[type(placed.cell)]
    of_input, of_state, biases, state_biases = [], [], [], []
    for gate in kind.gates:
        weight, bias, state_bias = _gate(source.weights, f"{placed.prefix}.{gate.name}", hidden)
        of_input.append(gate.sign * weight[:, :-hidden])
        of_state.append(gate.sign * weight[:, -hidden:])
        biases.append(gate.sign * bias)
        state_biases.append(state_bias)
    stacked = np.concatenate(of_input), np.concatenate(of_state), np.concatenate(biases + state_biases)
    w, r, b = (array[None].astype(np.float32) for array in stacked)
    return w, r, b


def _gate(weights: dict[str, Array], name: str, hidden: int) -> tuple[Array, Array, Array]:
    """[W_x, W_h], b and the bias that only the state's product has."""
    if f"{name}.weight" in weights:
        return weights[f"{name}.weight"], weights[f"{name}.bias"], np.zeros(hidden, np.float32)
    parts = [f"{name}_input", f"{name}_hidden"]
    weight = np.concatenate([weights[f"{part}.weight"] for part in parts], axis=1)
    return weight, weights[f"{parts[0]}.bias"], weights[f"{parts[1]}.bias"]
