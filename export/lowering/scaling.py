"""The scalings as ONNX nodes, mirroring training/scaling.py."""

from typing import NamedTuple

import numpy as np

from export.graph import GraphBuilder


class Ruler(NamedTuple):
    """Names of zero and unit, both [B, 1, F]."""

    zero: str
    unit: str


def ruler(g: GraphBuilder, kind: str, *, window: str, num_steps: int, num_series: int) -> Ruler | None:
    """The ruler of each row, or None where raw units are used as they are."""
    if kind == "fit":
        return None
    if kind == "window":
        zero = g.op("Slice", window, g.ints(num_steps - 1), g.ints(num_steps), g.ints(1))
        distance = g.op("Transpose", g.op("Abs", g.op("Sub", window, zero)), perm=[0, 2, 1])
        # A product and not ReduceMean, which adds up a row in an order that hangs on where it lies in memory.
        shares = g.constant("scaling.shares", np.full((num_steps, 1), 1 / num_steps, np.float32))
        mean = g.op("Transpose", g.op("MatMul", distance, shares), perm=[0, 2, 1])
        return Ruler(zero, g.op("Where", g.op("Equal", mean, g.scalar(0.0)), g.scalar(1.0), mean))
    if kind == "series":
        too_low = g.op("Less", "series", g.int_scalar(0))
        too_high = g.op("GreaterOrEqual", "series", g.int_scalar(num_series))
        row = g.op("Where", g.op("Or", too_low, too_high), g.int_scalar(num_series), "series")
        return Ruler(g.op("Gather", g.weight("scaling.zero"), row), g.op("Gather", g.weight("scaling.unit"), row))
    raise AssertionError(f"no lowering for scaling {kind!r}: this is a bug")


def rule(g: GraphBuilder, found: Ruler | None, values_BTF: str) -> str:
    """Raw values in the ruler's units."""
    return values_BTF if found is None else g.op("Div", g.op("Sub", values_BTF, found.zero), found.unit)


def of_target(g: GraphBuilder, found: Ruler) -> Ruler:
    """The target's zero and unit, both [B, 1]."""
    zero, unit = (g.op("Squeeze", g.op("Slice", name, g.ints(0), g.ints(1), g.ints(2)), g.ints(2)) for name in found)
    return Ruler(zero, unit)
