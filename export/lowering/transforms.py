"""The transforms as ONNX nodes, mirroring training/transform.py; the way back is in `head`."""

from export.graph import GraphBuilder
from export.lowering.source import Source


def encode_window(g: GraphBuilder, source: Source, window: str) -> tuple[str, str | None]:
    """What the cells read, [B, T, F], and the anchor, [B, 1] (None where it is 0)."""
    kind, num_steps = source.config.transform, source.config.window
    if kind == "standardize":
        return _scaled(g, source, window), None
    end = g.op("Slice", window, g.ints(num_steps - 1), g.ints(num_steps), g.ints(1))
    anchor = g.op("Squeeze", g.op("Slice", end, g.ints(0), g.ints(1), g.ints(2)), g.ints(1))
    if kind == "last-value":
        return _scaled(g, source, g.op("Sub", window, end)), anchor
    if kind in ("difference", "value-and-difference"):
        first = g.op("Slice", window, g.ints(0), g.ints(1), g.ints(1))
        previous = first
        if num_steps > 1:
            earlier = g.op("Slice", window, g.ints(0), g.ints(num_steps - 1), g.ints(1))
            previous = g.op("Concat", first, earlier, axis=1)
        difference = g.op("Sub", window, previous)
        return _scaled(g, source, _beside_values(g, kind, window, difference, axis=2)), anchor
    raise AssertionError(f"no lowering for transform {kind!r}: this is a bug")


def encode_value(g: GraphBuilder, source: Source, value: str, state: dict[str, str]) -> tuple[str, str | None]:
    """What the cells read of one value, [B, F], and the anchor, [B, 1] (None where it is 0)."""
    kind = source.config.transform
    if kind == "standardize":
        return _scaled(g, source, value), None
    if kind in ("difference", "value-and-difference"):
        difference = g.op("Mul", g.op("Sub", value, state["last"]), state["seen"])
        return _scaled(g, source, _beside_values(g, kind, value, difference, axis=1)), g.op(
            "Slice", value, g.ints(0), g.ints(1), g.ints(1)
        )
    raise AssertionError(f"transform {kind!r} cannot be stepped: this is a bug")


def encode_next(g: GraphBuilder, source: Source, value: str, previous: str) -> str:
    """What the cells read of one value behind another, both [B, F]."""
    kind = source.config.transform
    if kind == "standardize":
        return _scaled(g, source, value)
    if kind in ("difference", "value-and-difference"):
        return _scaled(g, source, _beside_values(g, kind, value, g.op("Sub", value, previous), axis=1))
    raise AssertionError(f"transform {kind!r} cannot be stepped: this is a bug")


def _beside_values(g: GraphBuilder, kind: str, values: str, difference: str, *, axis: int) -> str:
    """The differences, behind the values where both are shown."""
    return difference if kind == "difference" else g.op("Concat", values, difference, axis=axis)


def _scaled(g: GraphBuilder, source: Source, x: str) -> str:
    if source.reads_raw:
        return x
    return g.op("Div", g.op("Sub", x, g.weight("transform.mean")), g.weight("transform.scale"))
