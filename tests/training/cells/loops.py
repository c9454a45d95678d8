"""The textbook's equations again, as float64 loops over units in plain numpy: nothing shared with the cells."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


def sigmoid(a: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-a)))


def affine(weights: Weights, name: str, inputs: Array) -> Array:
    """`W inputs + b` for one vector, one output unit after the other."""
    matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return np.array(
        [sum(w * v for w, v in zip(row, inputs, strict=True)) + b for row, b in zip(matrix, bias, strict=True)]
    )


def rnn(weights: Weights, inputs_TF: Array, size: int) -> Array:
    h = np.zeros(size)
    for x in inputs_TF:
        h = np.tanh(affine(weights, "hidden", np.append(x, h)))
    return h


def lstm(weights: Weights, inputs_TF: Array, size: int) -> Array:
    h, c = np.zeros(size), np.zeros(size)
    for x in inputs_TF:
        both = np.append(x, h)
        keep = sigmoid(affine(weights, "forget_gate", both))
        write = sigmoid(affine(weights, "input_gate", both))
        show = sigmoid(affine(weights, "output_gate", both))
        c = keep * c + write * np.tanh(affine(weights, "cell_gate", both))
        h = show * np.tanh(c)
    return h


def gru(weights: Weights, inputs_TF: Array, size: int) -> Array:
    h = np.zeros(size)
    for x in inputs_TF:
        update = sigmoid(affine(weights, "update_gate", np.append(x, h)))
        reset = sigmoid(affine(weights, "reset_gate", np.append(x, h)))
        candidate = np.tanh(affine(weights, "hidden_candidate", np.append(x, reset * h)))
        h = (1 - update) * h + update * candidate
    return h


def gru_reset_after(weights: Weights, inputs_TF: Array, size: int) -> Array:
    h = np.zeros(size)
    for x in inputs_TF:
        update = sigmoid(affine(weights, "update_gate", np.append(x, h)))
        reset = sigmoid(affine(weights, "reset_gate", np.append(x, h)))
        past = affine(weights, "hidden_candidate_hidden", h)
        candidate = np.tanh(affine(weights, "hidden_candidate_input", x) + reset * past)
        h = (1 - update) * h + update * candidate
    return h


LOOPS: dict[str, Callable[[Weights, Array, int], Array]] = {
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "gru-reset-after": gru_reset_after,
}
