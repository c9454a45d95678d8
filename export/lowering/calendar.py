"""The calendar channels as ONNX nodes, mirroring training/calendar.py."""

import math

from export.graph import GraphBuilder
from training.calendar import harmonics


def with_channels(g: GraphBuilder, names: tuple[str, ...], x_BTF: str) -> str:
    """What the cells read, with the channels of the input `time_seconds` [B, T] behind it."""
    if not names:
        return x_BTF
    found = [x_BTF]
    for period, k in harmonics(names):
        multiple = "time_seconds" if k == 1 else g.op("Mul", "time_seconds", g.int_scalar(k))
        steps = g.op("Sub", g.op("Mod", multiple, g.int_scalar(period)), g.int_scalar(period // 2))
        phase = g.op("Mul", g.cast_to_float(steps), g.scalar(2 * math.pi / period))
        found += [g.op("Unsqueeze", g.op(function, phase), g.ints(2)) for function in ("Sin", "Cos")]
    return g.op("Concat", *found, axis=2)
