"""One step of each hand-written cell as ONNX nodes: the equations of training/cells, line by line.

A state is a tuple of value names in the order of the cell's state NamedTuple; the first is the output h [B, H].
`layer` is the prefix of the cell's weights, such as "layers.0". A cell that deepens a transition has no input: its x
is None.
"""

from collections.abc import Callable

from export.graph import GraphBuilder
from export.lowering.source import Source
from training.cells import Cell, GRUCell, GRUResetAfterCell, LSTMCell, RNNCell

State = tuple[str, ...]
Step = Callable[[GraphBuilder, str, str | None, State], State]


def rnn_step(g: GraphBuilder, layer: str, x: str | None, state: State) -> State:
    """H' = tanh(W [x; h] + b)."""
    (h,) = state
    combined = _beside(g, x, h)
    return (g.op("Tanh", g.linear(combined, f"{layer}.hidden")),)


def lstm_step(g: GraphBuilder, layer: str, x: str | None, state: State) -> State:
    """C' = f * c + i * g and h' = o * tanh(c')."""
    h, c = state
    combined = _beside(g, x, h)
    i = g.op("Sigmoid", g.linear(combined, f"{layer}.input_gate"))
    f = g.op("Sigmoid", g.linear(combined, f"{layer}.forget_gate"))
    o = g.op("Sigmoid", g.linear(combined, f"{layer}.output_gate"))
    new = g.op("Tanh", g.linear(combined, f"{layer}.cell_gate"))
    c = g.op("Add", g.op("Mul", f, c), g.op("Mul", i, new))
    return (g.op("Mul", o, g.op("Tanh", c)), c)


def gru_step(g: GraphBuilder, layer: str, x: str | None, state: State) -> State:
    """N = tanh(W_n [x; r * h] + b_n) and h' = (1 - z) * h + z * n."""
    (h,) = state
    combined = _beside(g, x, h)
    z = g.op("Sigmoid", g.linear(combined, f"{layer}.update_gate"))
    r = g.op("Sigmoid", g.linear(combined, f"{layer}.reset_gate"))
    remembered = _beside(g, x, g.op("Mul", r, h))
    n = g.op("Tanh", g.linear(remembered, f"{layer}.hidden_candidate"))
    return (_update(g, z, h, n),)


def gru_reset_after_step(g: GraphBuilder, layer: str, x: str | None, state: State) -> State:
    """N = tanh(W_n x + b_n + r * (U_n h + c_n)) and h' = (1 - z) * h + z * n."""
    (h,) = state
    combined = _beside(g, x, h)
    z = g.op("Sigmoid", g.linear(combined, f"{layer}.update_gate"))
    r = g.op("Sigmoid", g.linear(combined, f"{layer}.reset_gate"))
    remembered = g.op("Mul", r, g.linear(h, f"{layer}.hidden_candidate_hidden"))
    candidate = f"{layer}.hidden_candidate_input"
    read = g.weight(f"{candidate}.bias") if x is None else g.linear(x, candidate)
    n = g.op("Tanh", g.op("Add", read, remembered))
    return (_update(g, z, h, n),)


def _beside(g: GraphBuilder, x: str | None, h: str) -> str:
    """[x; h]."""
    return h if x is None else g.op("Concat", x, h, axis=1)


def _update(g: GraphBuilder, z: str, h: str, n: str) -> str:
    """(1 - z) * h + z * n."""
    kept = g.op("Mul", g.op("Sub", g.scalar(1.0), z), h)
    return g.op("Add", kept, g.op("Mul", z, n))


STEPS: dict[type[Cell], Step] = {
    RNNCell: rnn_step,
    LSTMCell: lstm_step,
    GRUCell: gru_step,
    GRUResetAfterCell: gru_reset_after_step,
}
STATE_FIELDS: dict[type[Cell], tuple[str, ...]] = {
    RNNCell: ("h",),
    LSTMCell: ("h", "c"),
    GRUCell: ("h",),
    GRUResetAfterCell: ("h",),
}


def stack_step(g: GraphBuilder, source: Source, x: str, states: list[State]) -> tuple[str, list[State]]:
    """One step through every layer: the top output and the new states."""
    after = []
    for k, (cells, state) in enumerate(zip(source.layers, states, strict=True)):
        read: str | None = x
        for cell, prefix in cells:
            state = STEPS[type(cell)](g, prefix, read, state)  # noqa: PLW2901 (the layer's state moves on)
            read = None
        after.append(state)
        x = g.op("Add", state[0], x) if source.config.residual and k else state[0]
    return x, after


def state_fields(source: Source) -> list[tuple[str, ...]]:
    """The names of every layer's state tensors."""
    return [STATE_FIELDS[type(cells[0].cell)] for cells in source.layers]
