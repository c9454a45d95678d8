"""Carry: the state goes on from the window's end, each value read as if it had been seen.

    s_T = steps(x_1 … x_T, 0);  y_1 = head(s_T);  s_{T+1} = step(y_1, s_T);  y_2 = head(s_{T+1});  …

A layer's steps through the window are one recurrent node, each further step another, where ONNX has a node for the
cell; else all are written out.

Closed: what is read after the window is linear in the output h that said it, x = a h + d, if the head is linear and
there is no other channel. Then a step needs nothing but its state,

    W_x x + W_h h + b = (W_h + W_x a) h + (b + W_x d)

and all R - 1 of them are one node, which reads zeros; what each says is one product at the end. The article's GRU has
no such form: its reset would have to leave W_x a h alone. Differences add up to values by a running sum.
"""

from collections.abc import Sequence

import numpy as np
import onnx

from export.artifact.manifest import CARRY, WINDOW, Graph
from export.graph import END, GraphBuilder
from export.lowering import head, scaling, transforms
from export.lowering.cells import stack_step
from export.lowering.folding import folded
from export.lowering.fused import Array, fusable, node, node_weights, recurred
from export.lowering.rollout.common import rollout_graph, why_not_rolled, without_intervals
from export.lowering.source import Source
from export.lowering.unrolled import steps, values
from training.cells import LSTMCell, RNNCell

# Where steps are written out: more of them take longer to load than they save.
MOST_STEPS = 256


def why_not_carry(source: Source, length: int) -> str:
    """Why there is no such graph of `length` values; empty where there is one."""
    if not fusable(source) and source.config.window + length > MOST_STEPS:
        return f"{source.config.window + length} steps would be too many nodes"
    return source.not_steppable or why_not_rolled(source)


def closes(source: Source) -> bool:
    """Whether what a step reads is linear in the output before it, and ONNX's node of the cell reads it everywhere."""
    config = source.config
    return (
        fusable(source)
        and config.num_layers == 1
        and isinstance(source.layers[0][0].cell, LSTMCell | RNNCell)
        and config.output_depth == 1
        and config.transform in ("standardize", "difference")
    )


def carry(source: Source, length: int) -> tuple[Graph, onnx.ModelProto]:
    """`window` [B, T, 1] (and `series` [B, 1]) → `next` [B, R], the state going on from value to value."""
    source = without_intervals(source)
    config, light = source.config, folded(source)
    g = GraphBuilder(light.weights)
    ruler = scaling.ruler(g, config.scaling, window=WINDOW, num_steps=config.window, num_series=config.num_series)
    ruled = scaling.rule(g, ruler, WINDOW)
    said = _closed(g, source, light, ruled, length) if closes(source) else _stepped(g, light, ruled, length)
    if ruler is None:
        return rollout_graph(g, source, CARRY, said, length=length, unit=None)
    target = scaling.of_target(g, ruler)
    raw = [g.op("Add", target.zero, g.op("Mul", value, target.unit)) for value in said]
    return rollout_graph(g, source, CARRY, raw, length=length, unit=target.unit)


def _closed(g: GraphBuilder, source: Source, light: Source, ruled: str, length: int) -> list[str]:
    """What is said, all of it at once, [B, R]; `light` is `source` with the standardising in its weights."""
    (placed,) = source.layers[0]
    x, anchor = transforms.encode_window(g, light, ruled)
    _, (state,) = recurred(g, light, g.op("Transpose", x, perm=[1, 0, 2]), None)

    weights = [
        g.constant(f"closed.{part}", array)
        for part, array in zip("WRB", closed(source, node_weights(source, placed)), strict=True)
    ]
    # [R - 1, B, 1]: a product, as the arithmetic of shapes is the CPU's on any provider.
    first = g.op("Transpose", g.op("Slice", ruled, g.ints(0), g.ints(1), g.ints(1)), perm=[1, 0, 2])
    zeros = g.op("Mul", first, g.constant("closed.zeros", np.zeros((length - 1, 1, 1), np.float32)))
    later, _ = node(g, placed.cell, zeros, weights, state, name="closed", needs_all=True)
    every = g.op("Reshape", g.op("Concat", state[0], later, axis=0), g.ints(-1, source.config.hidden_size))
    said = g.op("Reshape", _said(g, light, every), g.ints(length, -1))
    if source.carries_last:
        said = g.op("CumSum", said, g.int_scalar(0))
    said = g.op("Transpose", said, perm=[1, 0])
    return [said if anchor is None else g.op("Add", anchor, said)]


def closed(source: Source, weights: Sequence[Array]) -> tuple[Array, Array, Array]:
    """W, R and B of the node whose input is what its state says: W is zero."""
    w, r, b = (array[0].astype(np.float64) for array in weights)
    arrays = {name: array.astype(np.float64) for name, array in source.weights.items()}
    mean, scale = arrays["transform.mean"], arrays["transform.scale"]
    a_1H = arrays["head.point.weight"] * arrays["transform.target_scale"] / scale
    said = arrays["head.point.bias"] * arrays["transform.target_scale"] + arrays["transform.target_mean"]
    b[: len(w)] += w @ ((said - mean) / scale)
    return np.zeros_like(weights[0]), (r + w @ a_1H).astype(np.float32)[None], b.astype(np.float32)[None]


def _stepped(g: GraphBuilder, source: Source, ruled: str, length: int) -> list[str]:
    """What is said, value by value, [B, 1] each."""
    nodes = fusable(source)
    x, _ = transforms.encode_window(g, source, ruled)
    x = g.op("Transpose", x, perm=[1, 0, 2])
    if nodes:
        found, states = recurred(g, source, x, None)
        h = found.last
    else:
        outputs, states = steps(g, source, values(g, x, source.config.window), None)
        h = outputs[-1]
    end = g.op("Slice", ruled, g.ints(-1), g.ints(END), g.ints(1))
    said, last = [], g.op("Squeeze", end, g.ints(1))
    for k in range(length):
        value = _said(g, source, h)
        if source.carries_last:
            value = g.op("Add", last, value)
        said.append(value)
        if k == length - 1:
            break
        read = transforms.encode_next(g, source, value, last)
        last = value
        if nodes:
            found, states = recurred(g, source, g.op("Unsqueeze", read, g.ints(0)), states, name=f"value_{k + 1}")
            h = found.last
        else:
            h, states = stack_step(g, source, read, states)
    return said


def _said(g: GraphBuilder, source: Source, h: str) -> str:
    """What the head says, [B, 1], in what the transform gives: values, or differences."""
    said = g.linear(head.features(g, source, h), "head.point")
    if source.says_raw:
        return said
    return g.op("Add", g.op("Mul", said, g.weight("transform.target_scale")), g.weight("transform.target_mean"))
