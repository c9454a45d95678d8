"""The whole model once more in float64 numpy, from the textbook and the weights' names, sharing no code with ours."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.model import RecurrentModel

Array = NDArray[np.float64]
Weights = dict[str, Array]
State = tuple[Array, ...]


def predict(model: RecurrentModel, window_BTF: NDArray[np.float32]) -> Array:
    """The next value, [B, 1], after each window."""
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in model.state_dict().items()}
    window = window_BTF.astype(np.float64)
    shape = model.config
    end = window[:, -1]
    anchor = end[:, :1]
    if shape.transform == "standardize":
        x, anchor = window, np.zeros_like(anchor)
    elif shape.transform == "difference":
        x = np.zeros_like(window)
        x[:, 1:] = window[:, 1:] - window[:, :-1]
    else:
        x = window - end[:, None]
    x = (x - weights["transform.mean"]) / weights["transform.scale"]

    step, num_fields = CELLS[shape.cell]
    states = [(np.zeros((len(x), shape.hidden_size)),) * num_fields for _ in range(shape.num_layers)]
    for t in range(shape.window):
        h = x[:, t]
        for layer in range(shape.num_layers):
            prefix = f"stack.layers.{layer}."
            own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            states[layer] = step(own, h, states[layer])
            h = states[layer][0]
    y = h @ weights["head.weight"].T + weights["head.bias"]
    prediction: Array = anchor + (y * weights["transform.target_scale"] + weights["transform.target_mean"])
    return prediction


def _sigmoid(a: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-a))
    return result


def _affine(w: Weights, name: str, *parts: Array) -> Array:
    result: Array = np.hstack(parts) @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return result


def _rnn(w: Weights, x: Array, state: State) -> State:
    (h,) = state
    return (np.tanh(_affine(w, "hidden", x, h)),)


def _lstm(w: Weights, x: Array, state: State) -> State:
    h, c = state
    i = _sigmoid(_affine(w, "input_gate", x, h))
    f = _sigmoid(_affine(w, "forget_gate", x, h))
    o = _sigmoid(_affine(w, "output_gate", x, h))
    g = np.tanh(_affine(w, "cell_gate", x, h))
    c = f * c + i * g
    return o * np.tanh(c), c


def _gru(w: Weights, x: Array, state: State) -> State:
    (h,) = state
    z = _sigmoid(_affine(w, "update_gate", x, h))
    r = _sigmoid(_affine(w, "reset_gate", x, h))
    n = np.tanh(_affine(w, "hidden_candidate", x, r * h))
    return ((1 - z) * h + z * n,)


def _gru_reset_after(w: Weights, x: Array, state: State) -> State:
    (h,) = state
    z = _sigmoid(_affine(w, "update_gate", x, h))
    r = _sigmoid(_affine(w, "reset_gate", x, h))
    n = np.tanh(_affine(w, "hidden_candidate_input", x) + r * _affine(w, "hidden_candidate_hidden", h))
    return ((1 - z) * h + z * n,)


# Step and number of state fields.
CELLS: dict[str, tuple[Callable[[Weights, Array, State], State], int]] = {
    "rnn": (_rnn, 1),
    "lstm": (_lstm, 2),
    "gru": (_gru, 1),
    "gru-reset-after": (_gru_reset_after, 1),
}
