"""What a model of tests.artifacts must answer: the textbook's equations in numpy float64, from weights.safetensors.

Shares no code with the server, with torch or with onnxruntime. Shapes: N windows, T time, F features, H hidden.
"""

import json
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.artifact.folder import WEIGHTS, Artifact
from export.artifact.limits import deviation

Float64 = NDArray[np.float64]


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


class Oracle:
    """One artifact's right answers."""

    def __init__(self, folder: Path) -> None:
        self.artifact = Artifact(folder)
        self.manifest = self.artifact.manifest
        self.window = self.manifest.window
        self.num_features = len(self.manifest.features)
        self._weights = read_safetensors(self.artifact.read(WEIGHTS))

    def next(self, windows_NTF: NDArray[np.floating]) -> Float64:
        """The next value after each window, [N, 1]."""
        windows = windows_NTF.astype(np.float64)
        weights = self._weights
        anchor_N1 = np.zeros((len(windows), 1))
        kind = self.manifest.transform.kind
        if kind == "difference":
            anchor_N1 = windows[:, -1, :1]
            windows = np.diff(windows, axis=1, prepend=windows[:, :1])
        elif kind == "last-value":
            anchor_N1 = windows[:, -1, :1]
            windows = windows - windows[:, -1:]
        else:
            assert kind == "standardize"
        x_NTF = (windows - weights["transform.mean"]) / weights["transform.scale"]
        for k in range(self.manifest.num_layers):
            x_NTF = self._layer(k, x_NTF)
        y_N1 = x_NTF[:, -1] @ weights["head.point.weight"].T + weights["head.point.bias"]
        result: Float64 = anchor_N1 + y_N1 * weights["transform.target_scale"] + weights["transform.target_mean"]
        return result

    def _layer(self, k: int, x_NTF: Float64) -> Float64:
        def linear(name: str, *parts: Float64) -> Float64:
            prefix = f"stack.layers.{k}.{name}"
            product: Float64 = np.concatenate(parts, axis=1) @ self._weights[f"{prefix}.weight"].T
            return product + self._weights[f"{prefix}.bias"]

        h = np.zeros((len(x_NTF), self.manifest.hidden_size))
        c = np.zeros_like(h)
        outputs = []
        for t in range(x_NTF.shape[1]):
            x = x_NTF[:, t]
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
            outputs.append(h)
        return np.stack(outputs, axis=1)

    def predict(
        self, windows_NTF: NDArray[np.float32], horizon: int = 1, future_NHF: NDArray[np.float32] | None = None
    ) -> Float64:
        """Predictions [N, horizon]: the window slides over its own predictions and the covariates to come."""
        windows = windows_NTF.astype(np.float64)
        predictions = []
        for k in range(horizon):
            predictions.append(self.next(windows))
            if k + 1 < horizon:
                row = predictions[-1]
                if future_NHF is not None:
                    row = np.concatenate((row, future_NHF[:, k].astype(np.float64)), axis=1)
                windows = np.concatenate((windows[:, 1:], row[:, None]), axis=1)
        return np.concatenate(predictions, axis=1)

    def random_windows(self, generator: np.random.Generator, num_windows: int) -> NDArray[np.float32]:
        """Windows [N, T, F] at levels all over the place, so that no answer fits another window."""
        shape = (num_windows, self.window, self.num_features)
        level = generator.uniform(-1000, 1000, (num_windows, 1, 1))
        if self.manifest.transform.kind == "standardize":
            # Squashed by the first cell: only values near the mean tell windows apart.
            level = self._weights["transform.mean"]
        spread = self._weights["transform.scale"] * generator.standard_normal(shape)
        return (level + spread).astype(np.float32)

    def random_future(
        self, generator: np.random.Generator, num_windows: int, horizon: int
    ) -> NDArray[np.float32] | None:
        """Covariates [N, horizon - 1, F - 1]; None where the model has none or needs none."""
        if self.num_features == 1 or horizon == 1:
            return None
        shape = (num_windows, horizon - 1, self.num_features - 1)
        mean, scale = self._weights["transform.mean"][1:], self._weights["transform.scale"][1:]
        return (mean + scale * generator.standard_normal(shape)).astype(np.float32)

    def assert_right(self, found: NDArray[np.float32], expected: Float64) -> None:
        """Within the artifact's own limit, once per step of the horizon: each step adds its own error to the last."""
        worst = deviation(found, expected, self.manifest.transform.scale, self.manifest.tolerance)
        horizon = expected.shape[1]
        assert worst.share_of_limit <= horizon, f"off by {worst.abs_error:.3g}, {worst.share_of_limit:.3g} × the limit"
        assert math.isfinite(worst.abs_error)
