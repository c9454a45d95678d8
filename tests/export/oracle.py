"""The whole model once more in float64 numpy, from the textbook and the weights' names, sharing no code with ours."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from export.artifact.golden import Inputs
from training.model import ModelConfig, RecurrentModel

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]
Weights = dict[str, Array]
State = tuple[Array, ...]


def predict(model: RecurrentModel, window_BTF: NDArray[np.float32]) -> Array:
    """The next values, [B, K], after each window."""
    return predict_all(model, {"window": window_BTF})["next"]


def predict_all(model: RecurrentModel, inputs: Inputs) -> dict[str, Array]:
    """Everything the window graph gives, by name."""
    shape = model.config
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in model.state_dict().items()}
    if shape.cell.startswith("nn."):
        weights |= _unstacked(weights, shape.cell, shape.num_layers)
    window = inputs["window"].astype(np.float64)
    zero, unit = _ruler(shape, weights, window, inputs.get("series"))
    x, anchor = _transformed(shape.transform, weights, (window - zero) / unit)
    if shape.calendar:
        x = np.concatenate([x, _calendar(shape.calendar, inputs["time_seconds"])], axis=2)

    step, num_fields = CELLS[{"nn.lstm": "lstm", "nn.gru": "gru-reset-after"}.get(shape.cell, shape.cell)]
    states = [(np.zeros((len(x), shape.hidden_size)),) * num_fields for _ in range(shape.num_layers)]
    said = []
    for t in range(shape.window):
        h = x[:, t]
        for layer in range(shape.num_layers):
            below = h
            for depth in range(shape.transition_depth):
                prefix = f"stack.transitions.{layer}.{depth - 1}." if depth else f"stack.layers.{layer}."
                own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
                states[layer] = step(own, below[:, :0] if depth else below, states[layer])
            h = states[layer][0]
            if shape.residual and layer:
                h = h + below
        for depth in range(shape.output_depth - 1):
            h = np.tanh(_affine(weights, f"head.hidden.{depth}", h))
        said.append(_affine(weights, "head.point", h))
    y = said[-1]
    if shape.linear_skip:
        y = y + np.einsum("bj,kj->bk", x.reshape(len(x), -1), weights["linear_skip.weight"])
        for t in range(shape.window - 1):
            seen = np.zeros_like(x)
            seen[:, shape.window - 1 - t :] = x[:, : t + 1]
            said[t] = said[t] + np.einsum("bj,kj->bk", seen.reshape(len(x), -1), weights["linear_skip.weight"])
    recent_error = _recent_error(shape, weights, (window - zero)[:, :, 0] / unit[:, :, 0], said)
    zero, unit = zero[:, -1, :1], unit[:, -1, :1]
    following = zero + unit * (anchor + (y * weights["transform.target_scale"] + weights["transform.target_mean"]))
    found = {"next": following}
    if shape.scaling != "fit":
        found["unit"] = unit
    if shape.intervals != "none":
        distance = weights["head.margin"][None] * recent_error[:, None, None, None]
        if shape.intervals == "quantile":
            distance = distance * np.log1p(np.exp(_affine(weights, "head.distance", h))).reshape(distance.shape)
        distance = distance * weights["transform.target_scale"][:, None] * unit[:, :, None, None]
        found |= {"lower": following[..., None] - distance[:, 0], "upper": following[..., None] + distance[:, 1]}
    return found


def _recent_error(shape: ModelConfig, weights: Weights, values: Array, said: list[Array]) -> Array:
    """An exponentially weighted mean of how far off the model was on each value of the window, [B]."""
    if shape.intervals != "normalized":
        return np.ones(len(values))
    mean = weights["recent_error.usual"] * np.ones(len(values))
    for t in range(1, shape.window):
        before = 0 if shape.transform == "standardize" else values[:, t - 1]
        came = (values[:, t] - before - weights["transform.target_mean"][0]) / weights["transform.target_scale"][0]
        share = 2 / (max(shape.window // 4, min(shape.window, 8)) + 1)
        mean = (1 - share) * mean + share * np.abs(came - said[t - 1][:, 0])
    return mean


def _ruler(shape: ModelConfig, weights: Weights, window: Array, series: Numbers | None) -> tuple[Array, Array]:
    """Zero and unit of every row, [B, 1, F]."""
    if shape.scaling == "fit":
        return np.zeros_like(window[:, :1]), np.ones_like(window[:, :1])
    if shape.scaling == "window":
        unit = np.abs(window - window[:, -1:]).sum(axis=1, keepdims=True) / shape.window
        return window[:, -1:], np.array([[1.0 if value == 0 else value for value in row] for row in unit[:, 0]])[
            :, None
        ]
    assert series is not None
    rows = [number if 0 <= number < shape.num_series else shape.num_series for number in series[:, 0]]
    return weights["scaling.zero"][rows][:, None], weights["scaling.unit"][rows][:, None]


def _transformed(kind: str, weights: Weights, window: Array) -> tuple[Array, Array]:
    end = window[:, -1]
    anchor = end[:, :1]
    if kind == "standardize":
        x, anchor = window, np.zeros_like(anchor)
    elif kind in ("difference", "value-and-difference"):
        x = np.zeros_like(window)
        x[:, 1:] = window[:, 1:] - window[:, :-1]
        if kind == "value-and-difference":
            x = np.concatenate([window, x], axis=2)
    else:
        x = window - end[:, None]
    return (x - weights["transform.mean"]) / weights["transform.scale"], anchor


def _calendar(names: tuple[str, ...], times: Numbers) -> Array:
    """Sine and cosine of the time's place in each period, half a turn on."""
    found = []
    for name in names:
        seconds, harmonics = {"day": (86400, 3), "week": (604800, 3), "year": (31556952, 1)}[name]
        for k in range(1, harmonics + 1):
            turns = (k * times % seconds) / seconds - 0.5
            found += [np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)]
    return np.stack(found, axis=2)


def _unstacked(weights: Weights, cell: str, num_layers: int) -> Weights:
    """torch.nn's stacked rows under the names of the hand-written gates."""
    found: Weights = {}
    for layer in range(num_layers):
        own = f"stack.recurrent.{{}}_l{layer}"
        into = f"stack.layers.{layer}."
        w_ih, w_hh, b_ih, b_hh = (
            weights[own.format(name)] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = w_hh.shape[1]
        gates = (
            ("input_gate", "forget_gate", "cell_gate", "output_gate")
            if cell == "nn.lstm"
            else ("reset_gate", "update_gate")
        )
        for k, gate in enumerate(gates):
            rows = slice(k * hidden, (k + 1) * hidden)
            sign = -1 if gate == "update_gate" else 1  # torch's keeps what ours replaces
            found[f"{into}{gate}.weight"] = sign * np.hstack((w_ih[rows], w_hh[rows]))
            found[f"{into}{gate}.bias"] = sign * (b_ih[rows] + b_hh[rows])
        if cell == "nn.gru":
            rows = slice(2 * hidden, 3 * hidden)
            for name, matrix, bias in (("input", w_ih, b_ih), ("hidden", w_hh, b_hh)):
                found[f"{into}hidden_candidate_{name}.weight"] = matrix[rows]
                found[f"{into}hidden_candidate_{name}.bias"] = bias[rows]
    return found


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
