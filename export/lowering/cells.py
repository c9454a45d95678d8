"""One step of each hand-written cell as ONNX nodes: the equations of training/cells, line by line.

A state is a tuple of value names in the order of the cell's state NamedTuple; the first is the output h [B, H]. It is
None before a window's first value, where all is zero: what would be multiplied by it is not written at all. `layer` is
the prefix of the cell's weights, such as "layers.0". A cell that deepens a transition has no input: its x is None.
"""

from collections.abc import Callable, Sequence

from export.graph import GraphBuilder
from export.lowering.source import Source
from training.cells import Cell, GRUCell, GRUResetAfterCell, LSTMCell, RNNCell

State = tuple[str, ...]
Step = Callable[[GraphBuilder, str, str | None, State | None], State]


def rnn_step(g: GraphBuilder, layer: str, x: str | None, state: State | None) -> State:
    """H' = tanh(W [x; h] + b)."""
    combined = _Combined(g, x, _output(state))
    return (g.op("Tanh", combined.linear(f"{layer}.hidden")),)


def lstm_step(g: GraphBuilder, layer: str, x: str | None, state: State | None) -> State:
    """C' = f * c + i * g and h' = o * tanh(c'); from zero, c' = i * g."""
    combined = _Combined(g, x, _output(state))
    i = g.op("Sigmoid", combined.linear(f"{layer}.input_gate"))
    new = g.op("Tanh", combined.linear(f"{layer}.cell_gate"))
    c = g.op("Mul", i, new)
    if state is not None:
        f = g.op("Sigmoid", combined.linear(f"{layer}.forget_gate"))
        c = g.op("Add", g.op("Mul", f, state[1]), c)
    o = g.op("Sigmoid", combined.linear(f"{layer}.output_gate"))
    return (g.op("Mul", o, g.op("Tanh", c)), c)


def gru_step(g: GraphBuilder, layer: str, x: str | None, state: State | None) -> State:
    """N = tanh(W_n [x; r * h] + b_n) and h' = (1 - z) * h + z * n; from zero, h' = z * n whatever r is."""
    h = _output(state)
    combined = _Combined(g, x, h)
    z = g.op("Sigmoid", combined.linear(f"{layer}.update_gate"))
    remembered = combined
    if h is not None:
        r = g.op("Sigmoid", combined.linear(f"{layer}.reset_gate"))
        remembered = _Combined(g, x, g.op("Mul", r, h))
    n = g.op("Tanh", remembered.linear(f"{layer}.hidden_candidate"))
    return (_update(g, z, h, n),)


def gru_reset_after_step(g: GraphBuilder, layer: str, x: str | None, state: State | None) -> State:
    """N = tanh(W_n x + b_n + r * (U_n h + c_n)) and h' = (1 - z) * h + z * n; from zero, U_n h is."""
    h = _output(state)
    combined = _Combined(g, x, h)
    z = g.op("Sigmoid", combined.linear(f"{layer}.update_gate"))
    r = g.op("Sigmoid", combined.linear(f"{layer}.reset_gate"))
    of_state = f"{layer}.hidden_candidate_hidden"
    remembered = g.op("Mul", r, g.bias(of_state) if h is None else g.linear(g.join(h), of_state))
    of_input = f"{layer}.hidden_candidate_input"
    read = g.bias(of_input) if x is None else g.linear(g.join(x), of_input)
    n = g.op("Tanh", g.op("Add", read, remembered))
    return (_update(g, z, h, n),)


def _output(state: State | None) -> str | None:
    return None if state is None else state[0]


class _Combined:
    """[x; h], or whichever of the two there is."""

    def __init__(self, g: GraphBuilder, x: str | None, h: str | None) -> None:
        assert x is not None or h is not None, "a cell that deepens a transition has a state"
        self._g = g
        self._has_state = h is not None
        self._value = g.join(*(part for part in (x, h) if part is not None))

    def linear(self, layer: str) -> str:
        """W [x; h] + b; of W the columns of x alone, where h is zero."""
        return self._g.linear(self._value, layer, of_input=not self._has_state)


def _update(g: GraphBuilder, z: str, h: str | None, n: str) -> str:
    """(1 - z) * h + z * n, with one operation less: h + z * (n - h)."""
    return g.op("Mul", z, n) if h is None else g.op("Add", h, g.op("Mul", z, g.op("Sub", n, h)))


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


def stack_step(g: GraphBuilder, source: Source, x: str, states: Sequence[State | None]) -> tuple[str, list[State]]:
    """One step through every layer: the top output and the new states."""
    after: list[State] = []
    for k, (cells, before) in enumerate(zip(source.layers, states, strict=True)):
        read: str | None = x
        state = before
        for cell, prefix in cells:
            state = STEPS[type(cell)](g, prefix, read, state)
            read = None
        assert state is not None
        after.append(state)
        x = g.op("Add", state[0], x) if source.config.residual and k else state[0]
    return x, after


def state_fields(source: Source) -> list[tuple[str, ...]]:
    """The names of every layer's state tensors."""
    return [STATE_FIELDS[type(cells[0].cell)] for cells in source.layers]
