"""The textbook's equations in numpy float64, from weights.safetensors: what one run of a window graph must give.

Shares no code with the server, with torch or with onnxruntime. Shapes: N windows, T time, I input channels, F
features, H hidden, K values that one run gives, L interval levels.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.artifact.folder import SERIES, WEIGHTS, Artifact

Float64 = NDArray[np.float64]

# Seconds, and how many harmonics.
PERIODS = {"day": (86_400, 3), "week": (604_800, 3), "year": (31_556_952, 1)}


def read_safetensors(data: bytes) -> dict[str, Float64]:
    """Float32 tensors by name, as float64: a length, a JSON header of offsets, then the bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    body = data[8 + length :]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32"
        start, stop = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[start:stop], "<f4").reshape(entry["shape"]).astype(np.float64)
    return tensors


def sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-x))


class Textbook:
    """One artifact's equations and weights."""

    def __init__(self, folder: Path) -> None:
        self.artifact = Artifact(folder)
        self.manifest = self.artifact.manifest
        self.window = self.manifest.window
        self.num_features = len(self.manifest.features)
        self.direct_horizon = self.manifest.direct_horizon
        self.levels = self.manifest.intervals.levels if self.manifest.intervals else []
        self.ids: list[str] = []
        if self.manifest.scaling.kind == "series":
            self.ids = json.loads(self.artifact.read(SERIES))
        self._weights = read_safetensors(self.artifact.read(WEIGHTS))

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, Float64]:
        """All that the window graph gives, by name."""
        weights, manifest = self._weights, self.manifest
        window = inputs["window"].astype(np.float64)
        zero, unit = self._ruler(window, inputs.get("series"))
        x_NTI, anchor_N1 = self._transformed((window - zero) / unit)
        if manifest.calendar:
            x_NTI = np.concatenate((x_NTI, self._calendar(inputs["time_seconds"])), axis=2)
        inputs_NTI = x_NTI
        for layer in range(manifest.num_layers):
            below = x_NTI
            x_NTI = self._layer(layer, x_NTI)
            if manifest.residual and layer:
                x_NTI = x_NTI + below
        features_NTH = x_NTI
        for depth in range(manifest.output_depth - 1):
            features_NTH = np.tanh(self._affine(f"head.hidden.{depth}", features_NTH))
        output_NTK = self._affine("head.point", features_NTH)
        said_NK = output_NTK[:, -1]
        if manifest.linear_skip:
            said_NK = said_NK + inputs_NTI.reshape(len(window), -1) @ weights["linear_skip.weight"].T
        ahead = said_NK * weights["transform.target_scale"] + weights["transform.target_mean"]
        zero_N1, unit_N1 = zero[:, 0, :1], unit[:, 0, :1]
        following = zero_N1 + unit_N1 * (anchor_N1 + ahead)
        found = {"next": following}
        if manifest.scaling.kind != "fit":
            found["unit"] = unit_N1
        if manifest.intervals is not None:
            shape = (len(window), 2, self.direct_horizon, len(self.levels))
            distance = np.broadcast_to(weights["head.margin"], shape)
            if manifest.intervals.kind == "quantile":
                distance = distance * np.log1p(np.exp(self._affine("head.distance", features_NTH[:, -1]))).reshape(
                    shape
                )
            if manifest.intervals.kind == "normalized":
                said_NT = output_NTK[:, :, 0] + self._linear_skip(inputs_NTI)
                recent_N = self._recent_error((window - zero)[:, :, 0] / unit[:, :, 0], said_NT)
                distance = distance * recent_N[:, None, None, None]
            distance = distance * weights["transform.target_scale"][:, None] * unit_N1[:, :, None, None]
            found["lower"] = following[:, :, None] - distance[:, 0]
            found["upper"] = following[:, :, None] + distance[:, 1]
        return found

    def next(self, windows_NTF: NDArray[np.floating]) -> Float64:
        """The next values after each window, [N, K], of a model that takes nothing else."""
        return self.run({"window": windows_NTF})["next"]

    def _linear_skip(self, inputs_NTI: Float64) -> Float64:
        """What is linear in the inputs up to each step, as if nothing had been in front of them, [N, T]."""
        found_NT = np.zeros(inputs_NTI.shape[:2])
        if self.manifest.linear_skip:
            kernel_TI = self._weights["linear_skip.weight"][0].reshape(self.window, -1)
            for t in range(self.window):
                found_NT[:, t] = (inputs_NTI[:, : t + 1] * kernel_TI[self.window - t - 1 :]).sum(axis=(1, 2))
        return found_NT

    def _recent_error(self, values_NT: Float64, outputs_NT: Float64) -> Float64:
        """The running mean of what outputs were off by, one value ahead, [N]; it begins at the usual."""
        mean, scale = (self._weights[f"transform.target_{name}"][0] for name in ("mean", "scale"))
        before_NT = np.zeros_like(values_NT) if self.manifest.transform.kind == "standardize" else values_NT
        found_N = np.broadcast_to(self._weights["recent_error.usual"], len(values_NT))
        share = 2 / (max(self.window // 4, min(self.window, 8)) + 1)
        for t in range(1, self.window):
            actual_N = (values_NT[:, t] - before_NT[:, t - 1] - mean) / scale
            found_N = (1 - share) * found_N + share * np.abs(outputs_NT[:, t - 1] - actual_N)
        return found_N

    def _ruler(self, window: Float64, series: NDArray[np.int64] | None) -> tuple[Float64, Float64]:
        """Zero and unit of every row, [N, 1, F]."""
        kind = self.manifest.scaling.kind
        if kind == "fit":
            return np.zeros_like(window[:, :1]), np.ones_like(window[:, :1])
        if kind == "window":
            unit = np.abs(window - window[:, -1:]).mean(axis=1, keepdims=True)
            return window[:, -1:], np.where(unit == 0, 1.0, unit)
        assert series is not None
        known = range(len(self.ids))
        rows = [number if number in known else len(self.ids) for number in series[:, 0].tolist()]
        return self._weights["scaling.zero"][rows][:, None], self._weights["scaling.unit"][rows][:, None]

    def _transformed(self, window: Float64) -> tuple[Float64, Float64]:
        anchor_N1 = np.zeros((len(window), 1))
        kind = self.manifest.transform.kind
        if kind == "difference":
            anchor_N1 = window[:, -1, :1]
            window = np.diff(window, axis=1, prepend=window[:, :1])
        elif kind == "last-value":
            anchor_N1 = window[:, -1, :1]
            window = window - window[:, -1:]
        else:
            assert kind == "standardize"
        return (window - self._weights["transform.mean"]) / self._weights["transform.scale"], anchor_N1

    def _calendar(self, times: NDArray[np.int64]) -> Float64:
        found = []
        for name in self.manifest.calendar:
            seconds, harmonics = PERIODS[name]
            for k in range(1, harmonics + 1):
                turns = (k * times % seconds) / seconds - 0.5
                found += [np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)]
        return np.stack(found, axis=2)

    def _affine(self, name: str, *parts: Float64) -> Float64:
        product: Float64 = np.concatenate(parts, axis=-1) @ self._weights[f"{name}.weight"].T
        return product + self._weights[f"{name}.bias"]

    def _layer(self, k: int, x_NTI: Float64) -> Float64:
        h = np.zeros((len(x_NTI), self.manifest.hidden_size))
        c = np.zeros_like(h)
        outputs = []
        for t in range(x_NTI.shape[1]):
            h, c = self._cell(f"stack.layers.{k}", x_NTI[:, t], h, c)
            for depth in range(self.manifest.transition_depth - 1):
                h, c = self._cell(f"stack.transitions.{k}.{depth}", x_NTI[:, t, :0], h, c)
            outputs.append(h)
        return np.stack(outputs, axis=1)

    def _cell(self, prefix: str, x: Float64, h: Float64, c: Float64) -> tuple[Float64, Float64]:
        def linear(name: str, *parts: Float64) -> Float64:
            return self._affine(f"{prefix}.{name}", *parts)

        if self.manifest.cell == "rnn":
            h = np.tanh(linear("hidden", x, h))
        elif self.manifest.cell == "lstm":
            i, f, o = (sigmoid(linear(f"{gate}_gate", x, h)) for gate in ("input", "forget", "output"))
            c = f * c + i * np.tanh(linear("cell_gate", x, h))
            h = o * np.tanh(c)
        else:
            assert self.manifest.cell == "gru"
            z, r = sigmoid(linear("update_gate", x, h)), sigmoid(linear("reset_gate", x, h))
            h = (1 - z) * h + z * np.tanh(linear("hidden_candidate", x, r * h))
        return h, c
