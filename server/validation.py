"""What a request may contain. Every message names the field, its value and the limit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from export.artifact.manifest import CARRY, SLIDING, Manifest
from server.errors import InvalidRequest
from server.tensors import is_finite

# Beyond this, a model's own float32 arithmetic (differences, scales) may overflow on finite input.
EXTREME = 1e30
# The first second of the year 1 and the last of 9999, UTC. Milliseconds of today are beyond them.
FIRST_TIME, LAST_TIME = -62_135_596_800, 253_402_300_799
# Levels travel as numbers that some callers keep in float32.
LEVEL_TOLERANCE = 1e-6


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
    if not is_finite(values):
        first = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise InvalidRequest(f"{field}{list(first)}", values[first], "values must be finite")


def check_horizon(field: str, horizon: int, max_horizon: int) -> int:
    """Raises InvalidRequest unless 1 ≤ horizon ≤ max_horizon."""
    if not 1 <= horizon <= max_horizon:
        raise InvalidRequest(field, horizon, f"it must be from 1 to {max_horizon}")
    return horizon


def check_reply_size(field: str, num_windows: int, horizon: int, max_bytes: int, *, num_levels: int = 0) -> None:
    """Raises InvalidRequest if predictions [N, horizon] and both ends of their intervals would not fit into a reply."""
    size = 4 * num_windows * horizon * (1 + 2 * num_levels)
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
                f"{field}.shape",
                list(future.shape),
                f"it is taken only with covariates and a horizon above {manifest.direct_horizon}",
            )
        return None
    if future is None:
        names = ", ".join(manifest.features[1:])
        raise InvalidRequest(field, "missing", f"a horizon of {horizon} needs the covariates ({names}) as {shape}")
    if list(future.shape) != shape:
        raise InvalidRequest(f"{field}.shape", list(future.shape), f"this call needs {shape}")
    check_finite(field, future)
    return future


def check_time_seconds(
    field: str, time_seconds: NDArray[np.int64] | None, manifest: Manifest, num_windows: int
) -> NDArray[np.int64] | None:
    """Times [N, T], growing within each window, demanded exactly where the model has a calendar."""
    if not manifest.calendar:
        if time_seconds is not None:
            raise InvalidRequest(f"{field}.shape", list(time_seconds.shape), "the model has no calendar and takes none")
        return None
    shape = [num_windows, manifest.window]
    if time_seconds is None:
        cycles = ", ".join(manifest.calendar)
        raise InvalidRequest(field, "missing", f"the model has a calendar ({cycles}) and needs the times as {shape}")
    if list(time_seconds.shape) != shape:
        raise InvalidRequest(f"{field}.shape", list(time_seconds.shape), f"this call needs {shape}")
    wrong = (time_seconds < FIRST_TIME) | (time_seconds > LAST_TIME)
    if wrong.any():
        n, t = np.argwhere(wrong)[0].tolist()
        raise InvalidRequest(
            f"{field}[{n}, {t}]", time_seconds[n, t], f"seconds since 1970 are from {FIRST_TIME} to {LAST_TIME}"
        )
    falling = time_seconds[:, 1:] <= time_seconds[:, :-1]
    if falling.any():
        n, t = np.argwhere(falling)[0].tolist()
        before, after = time_seconds[n, t : t + 2].tolist()
        raise InvalidRequest(f"{field}[{n}, {t + 1}]", after, f"it must be above the time before it, {before}")
    return time_seconds


def check_times_go_on(field: str, horizon: int, manifest: Manifest) -> None:
    """Raises InvalidRequest if a horizon needs times beyond the window and a window of one value gives no step."""
    if manifest.calendar and manifest.window == 1 and horizon > manifest.direct_horizon:
        limit = f"it must be from 1 to {manifest.direct_horizon}: the time after a window of 1 value is not known"
        raise InvalidRequest(field, horizon, limit)


def check_rollout(field: str, rollout: str, carry_horizon: int, horizon_field: str, horizon: int) -> None:
    """Raises InvalidRequest if the state shall go on further than the model's graph takes it; 0: there is none."""
    if rollout != CARRY:
        return
    if not carry_horizon:
        raise InvalidRequest(field, repr(rollout), f"the model has no graph for it; with {SLIDING!r} it goes on")
    if horizon > carry_horizon:
        raise InvalidRequest(horizon_field, horizon, f"with {field} {rollout!r} it must be from 1 to {carry_horizon}")


def check_series(
    field: str, series: Sequence[str] | NDArray[np.int64] | None, manifest: Manifest, num_windows: int
) -> Sequence[str] | NDArray[np.int64] | None:
    """The windows' series, N ids or numbers [N, 1], demanded exactly where the model is scaled by series."""
    if manifest.scaling.kind != "series":
        if series is not None:
            raise InvalidRequest(field, f"given for {len(series)} windows", "the model takes none")
        return None
    if series is None:
        raise InvalidRequest(
            field, "missing", f"the model is scaled by series and needs that of each of {num_windows} windows"
        )
    if isinstance(series, np.ndarray) and series.shape[1:] != (1,):
        raise InvalidRequest(f"{field}.shape", list(series.shape), f"this call needs [{num_windows}, 1]")
    if len(series) != num_windows:
        raise InvalidRequest(field, f"given for {len(series)} windows", f"this call has {num_windows}")
    return series


def check_levels(
    field: str, levels: Sequence[float] | None, manifest: Manifest, horizon_field: str, horizon: int
) -> list[int]:
    """The places of the levels asked for among the model's; all of them for an empty list, none for None."""
    if levels is None:
        return []
    if manifest.intervals is None:
        raise InvalidRequest(field, "asked for", "the model has none")
    if horizon > manifest.direct_horizon:
        raise InvalidRequest(
            horizon_field, horizon, f"with intervals it must be from 1 to {manifest.direct_horizon}, what one run gives"
        )
    known = manifest.intervals.levels
    if len(levels) > len(known):
        raise InvalidRequest(f"{field}.levels", f"{len(levels)} levels", f"the model has {len(known)}")
    places = []
    for k, level in enumerate(levels):
        place = next((place for place, one in enumerate(known) if abs(one - level) <= LEVEL_TOLERANCE), None)
        if place is None:
            raise InvalidRequest(f"{field}.levels[{k}]", level, f"the model has {', '.join(map(str, known))}")
        places.append(place)
    return places or list(range(len(known)))
