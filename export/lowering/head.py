"""From the top output to what the graph gives, mirroring training/head.py and the model's way back to raw units."""

from typing import Literal

from export.artifact.manifest import Tensor
from export.graph import GraphBuilder
from export.lowering.scaling import Ruler, of_target
from export.lowering.source import Source


def features(g: GraphBuilder, source: Source, h: str) -> str:
    """What the linear layers read, from the top output h [B, H]."""
    for k in range(source.config.output_depth - 1):
        h = g.op("Tanh", g.linear(h, f"head.hidden.{k}"))
    return h


def decode(
    g: GraphBuilder,
    source: Source,
    h: str,
    *,
    anchor: str | None,
    ruler: Ruler | None,
    recent: str | None,
    linear: str | None = None,
) -> str:
    """Add the nodes behind the top output h [B, H] up to every output of `outputs`.

    `recent` error [B, 1] is what intervals are multiples of, `linear` [B, K] is added to what the head says. Gives what
    was said, [B, K], in the transform's units (those of a step: no node is folded there).
    """
    config = source.config
    h = features(g, source, h)
    target = None if ruler is None else of_target(g, ruler)
    said = g.linear(h, "head.point")
    if linear is not None:
        said = g.op("Add", said, linear)
    point = said
    if not source.says_raw:
        point = g.op("Mul", point, g.weight("transform.target_scale"))
        point = g.op("Add", point, g.weight("transform.target_mean"))
    if anchor is not None:
        point = g.op("Add", anchor, point)
    if target is None:
        g.rename(point, g.named("next"))
        point = g.named("next")
    else:
        point = g.op("Add", target.zero, g.op("Mul", point, target.unit), output=g.named("next"))
        g.op("Identity", target.unit, output=g.named("unit"))
    if config.intervals != "none":
        _ends(g, source, h, point, target=target, recent=recent)
    return said


def _ends(g: GraphBuilder, source: Source, h: str, point: str, *, target: Ruler | None, recent: str | None) -> None:
    """`lower` and `upper` [B, K, L]; the margins have the target's scale in them."""
    config = source.config
    point = g.op("Unsqueeze", point, g.ints(2))
    distances = g.weight("head.margin")
    if config.intervals == "quantile":
        spread = g.op("Softplus", g.linear(h, "head.distance"))
        shape = g.ints(0, 2, config.horizon, len(config.levels))
        distances = g.op("Mul", g.op("Reshape", spread, shape), distances)
        axis = 1
    elif recent is not None:
        distances = g.op("Mul", g.op("Unsqueeze", recent, g.ints(2, 3)), distances)
        axis = 1
    else:
        axis = 0
    if target is not None:
        unit = g.op("Unsqueeze", target.unit, g.ints(2))
    sides = (("lower", "Sub"), ("upper", "Add"))
    for place, (name, operation) in enumerate(sides):
        side = g.op("Slice", distances, g.ints(place), g.ints(place + 1), g.ints(axis))
        distance = g.op("Squeeze", side, g.ints(axis))
        if target is not None:
            distance = g.op("Mul", distance, unit)
        g.op(operation, point, distance, output=g.named(name))


def outputs(source: Source) -> list[Tensor]:
    """What `decode` gives, as the manifest describes it."""
    config = source.config
    unit = "" if config.scaling == "fit" else "unit"
    found = [Tensor(name="next", shape=["batch", config.horizon], scale=source.target_scale, unit=unit)]
    if config.intervals != "none":
        shape: list[int | Literal["batch"]] = ["batch", config.horizon, len(config.levels)]
        found += [Tensor(name=name, shape=shape, scale=source.target_scale, unit=unit) for name in ("lower", "upper")]
    if unit:
        found.append(Tensor(name=unit, shape=["batch", 1], unit=unit))
    return found


def context_inputs(source: Source, num_steps: int) -> list[Tensor]:
    """Inputs beside the values: the time of each of them, and the number of the series."""
    found = []
    if source.config.calendar:
        found.append(Tensor(name="time_seconds", dtype="int64", shape=["batch", num_steps]))
    if source.config.scaling == "series":
        found.append(Tensor(name="series", dtype="int64", shape=["batch", 1]))
    return found
