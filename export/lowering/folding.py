"""What is linear around the recurrence, folded into the weights beside it, so that no node is left of it.

    W x + b      with x = (u - mean) / scale     is   (W / scale) u + (b - W mean / scale)
    (W h + b) * scale + mean                     is   (scale W) h + (scale b + mean)

`u` is what the transform makes of a window before it is standardised. The sums are made in float64 and rounded once.
Where the mean is many scales away from zero, the large products of u and of the mean would cancel and leave their
rounding: there the nodes stay. So they do beside a linear skip, whose sum over the whole window no gate bounds.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from export.lowering.source import Source, Weights

# Means beyond so many scales are not folded: 8 of float32's roundings are a twentieth of what parity allows.
MOST_SCALES = 8.0

# What reads the state alone.
OF_STATE = "_hidden.weight"


def folded(source: Source) -> Source:
    """The same model with as few nodes around its cells as its scales allow."""
    if source.config.linear_skip:
        return source
    weights = dict(source.weights)
    reads_raw = _is_near(weights["transform.mean"], weights["transform.scale"])
    if reads_raw:
        _fold_input(source, weights)
    # The recent error is measured in the transform's units.
    says_raw = source.config.intervals != "normalized" and _is_near(
        weights["transform.target_mean"], weights["transform.target_scale"]
    )
    if says_raw:
        scale, mean = weights["transform.target_scale"], weights["transform.target_mean"]
        _scale_rows(weights, "head.point", scale, mean)
    return replace(source, weights=weights, reads_raw=reads_raw, says_raw=says_raw)


def _fold_input(source: Source, weights: Weights) -> None:
    """Let the first layer read u."""
    scale = weights["transform.scale"].astype(np.float64)
    mean = weights["transform.mean"] / scale
    num_channels = len(scale)
    first = source.layers[0][0].prefix
    for name in [name for name in weights if name.startswith(f"{first}.") and name.endswith(".weight")]:
        if name.endswith(OF_STATE):
            continue
        weight, bias = weights[name].astype(np.float64), name.removesuffix("weight") + "bias"
        of_input = weight[:, :num_channels].copy()
        weight[:, :num_channels] = of_input / scale
        weights[name] = _single(weight)
        weights[bias] = _single(weights[bias] - of_input @ mean)


def _scale_rows(weights: Weights, layer: str, scale_K: NDArray[np.float32], mean_K: NDArray[np.float32]) -> None:
    scale = scale_K.astype(np.float64)
    weights[f"{layer}.weight"] = _single(weights[f"{layer}.weight"] * scale[:, None])
    weights[f"{layer}.bias"] = _single(weights[f"{layer}.bias"] * scale + mean_K)


def _is_near(mean: NDArray[np.float32], scale: NDArray[np.float32]) -> bool:
    return bool((np.abs(mean) <= MOST_SCALES * scale).all())


def _single(array: NDArray[np.float64]) -> NDArray[np.float32]:
    return array.astype(np.float32)
