"""The transforms as ONNX nodes, mirroring training/transform.py; the way back is in `head`."""

from export.graph import GraphBuilder


def encode_window(g: GraphBuilder, kind: str, window: str, num_steps: int) -> tuple[str, str | None]:
    """What the cells read, [B, T, F], and the anchor, [B, 1] (None where it is 0)."""
    if kind == "standardize":
        return _scaled(g, window), None
    end = g.op("Slice", window, g.ints(num_steps - 1), g.ints(num_steps), g.ints(1))
    anchor = g.op("Squeeze", g.op("Slice", end, g.ints(0), g.ints(1), g.ints(2)), g.ints(1))
    if kind == "last-value":
        return _scaled(g, g.op("Sub", window, end)), anchor
    if kind == "difference":
        first = g.op("Slice", window, g.ints(0), g.ints(1), g.ints(1))
        if num_steps == 1:
            return _scaled(g, g.op("Sub", window, first)), anchor
        earlier = g.op("Slice", window, g.ints(0), g.ints(num_steps - 1), g.ints(1))
        previous = g.op("Concat", first, earlier, axis=1)
        return _scaled(g, g.op("Sub", window, previous)), anchor
    raise AssertionError(f"no lowering for transform {kind!r}: this is a bug")


def encode_value(g: GraphBuilder, kind: str, value: str, state: dict[str, str]) -> tuple[str, str | None]:
    """What the cells read of one value, [B, F], and the anchor, [B, 1] (None where it is 0)."""
    if kind == "standardize":
        return _scaled(g, value), None
    if kind == "difference":
        difference = g.op("Mul", g.op("Sub", value, state["last"]), state["seen"])
        return _scaled(g, difference), g.op("Slice", value, g.ints(0), g.ints(1), g.ints(1))
    raise AssertionError(f"transform {kind!r} cannot be stepped: this is a bug")


def _scaled(g: GraphBuilder, x: str) -> str:
    return g.op("Div", g.op("Sub", x, g.weight("transform.mean")), g.weight("transform.scale"))
