"""What a request may contain. Every message names the field, its value and the limit."""

import numpy as np
from numpy.typing import NDArray

from export.artifact.manifest import Manifest
from server.errors import InvalidRequest

# Beyond this, a model's own float32 arithmetic (differences, scales) may overflow on finite input.
EXTREME = 1e30


def check_windows(field: str, windows: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float32]:
    """Windows as [N, T, F]; [N, T] is taken where F is 1. Raises InvalidRequest."""
    num_features = len(manifest.features)
    sent = list(windows.shape)
    if windows.ndim == 2 and num_features == 1:
        windows = windows[:, :, None]
    expected = (manifest.window, num_features)
    if windows.ndim != 3 or windows.shape[1:] != expected:
        raise InvalidRequest(f"{field}.shape", sent, f"the model takes [N, {manifest.window}, {num_features}]")
    if not len(windows):
        raise InvalidRequest(f"{field}.shape", sent, "there must be at least one window")
    check_finite(field, windows)
    return windows


def check_finite(field: str, values: NDArray[np.float32]) -> None:
    """Raises InvalidRequest naming the first element that is NaN or infinite."""
    if not np.isfinite(values).all():
        first = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise InvalidRequest(f"{field}{list(first)}", values[first], "values must be finite")


def check_horizon(field: str, horizon: int, max_horizon: int) -> int:
    """Raises InvalidRequest unless 1 ≤ horizon ≤ max_horizon."""
    if not 1 <= horizon <= max_horizon:
        raise InvalidRequest(field, horizon, f"it must be from 1 to {max_horizon}")
    return horizon


def check_reply_size(field: str, num_windows: int, horizon: int, max_bytes: int) -> None:
    """Raises InvalidRequest if the predictions [N, horizon] would not fit into a reply."""
    size = 4 * num_windows * horizon
    if size > max_bytes:
        raise InvalidRequest(
            field, horizon, f"for {num_windows} windows the reply would have {size} bytes, the limit is {max_bytes}"
        )


def check_not_extreme(field: str, windows_NTF: NDArray[np.float32], row: int) -> None:
    """Raises InvalidRequest if window `row` is so large that float32 arithmetic on it may overflow."""
    largest = float(np.abs(windows_NTF[row]).max())
    if largest > EXTREME:
        raise InvalidRequest(f"{field}[{row}]", f"as large as {largest:g}", "its prediction overflows float32")


def check_future(
    field: str, future: NDArray[np.float32] | None, manifest: Manifest, num_windows: int, horizon: int
) -> NDArray[np.float32] | None:
    """Covariates [N, horizon - 1, F - 1] of the predicted steps, demanded exactly where they are needed."""
    num_covariates = len(manifest.features) - 1
    needed = num_covariates > 0 and horizon > manifest.direct_horizon
    shape = [num_windows, horizon - 1, num_covariates]
    if not needed:
        if future is not None and future.size:
            raise InvalidRequest(
                f"{field}.shape", list(future.shape), "it is taken only with covariates and a horizon above 1"
            )
        return None
    if future is None:
        names = ", ".join(manifest.features[1:])
        raise InvalidRequest(field, "missing", f"a horizon of {horizon} needs the covariates ({names}) as {shape}")
    if list(future.shape) != shape:
        raise InvalidRequest(f"{field}.shape", list(future.shape), f"this call needs {shape}")
    check_finite(field, future)
    return future
