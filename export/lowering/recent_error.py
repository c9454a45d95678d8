"""How far off the model has lately been, as ONNX nodes, mirroring training/recent_error.py."""

from typing import NamedTuple

from export.graph import GraphBuilder
from export.lowering import head
from export.lowering.source import Source
from training.recent_error import decay_of

STATE = ("forecast", "excess", "has_forecast")


class Stepped(NamedTuple):
    """After a value: the recent error and how far it is above the usual, both [B, 1]."""

    recent_error: str
    excess: str


def of_window(g: GraphBuilder, source: Source, ruled: str, outputs: str, linear: str | None) -> str:
    """The recent error [B, 1] after a window, from the top outputs [(T - 1) * B, H] after all its values but the last.

    All outputs go through the head as one batch. `linear` [T - 1, B] is added to what it says.
    """
    num_errors = source.config.window - 1
    said = g.linear(head.features(g, source, outputs), "recent_error.point")
    said = g.op("Reshape", said, g.ints(num_errors, -1))
    if linear is not None:
        said = g.op("Add", said, linear)
    # The target's values, oldest first, [T, B].
    target = g.op("Slice", ruled, g.ints(0), g.ints(1), g.ints(2))
    target = g.op("Transpose", g.op("Squeeze", target, g.ints(2)))
    came = g.op("Slice", target, g.ints(1), g.ints(source.config.window), g.ints(0))
    if source.carries_last:
        came = g.op("Sub", came, g.op("Slice", target, g.ints(0), g.ints(num_errors), g.ints(0)))
    error = g.op("Abs", g.op("Sub", said, _scaled(g, came)))
    # Rows of windows and not columns, of which the last few would be added up in another order than the others.
    mean = g.op("MatMul", g.op("Transpose", error), g.weight("recent_error.weights"))
    return g.op("Add", mean, g.weight("recent_error.start"))


def of_value(g: GraphBuilder, source: Source, ruled: str) -> Stepped | None:
    """The recent error after one value [B, F] and the state in front of it; None where intervals are not normalized."""
    config = source.config
    if config.intervals != "normalized":
        return None
    came = g.op("Slice", ruled, g.ints(0), g.ints(1), g.ints(1))
    if source.carries_last:
        came = g.op("Sub", came, g.op("Slice", "initial_last", g.ints(0), g.ints(1), g.ints(1)))
    error = g.op("Abs", g.op("Sub", "initial_forecast", _scaled(g, came)))
    news = g.op("Mul", "initial_has_forecast", g.op("Sub", error, g.weight("recent_error.usual")))
    decay = decay_of(config.window)
    excess = g.op("Add", g.op("Mul", "initial_excess", g.scalar(decay)), g.op("Mul", news, g.scalar(1 - decay)))
    return Stepped(g.op("Add", excess, g.weight("recent_error.usual")), excess)


def _scaled(g: GraphBuilder, came: str) -> str:
    return g.op("Div", g.op("Sub", came, g.weight("recent_error.mean")), g.weight("recent_error.scale"))
