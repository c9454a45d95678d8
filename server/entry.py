"""One call's windows on their way through the engine.

Shapes: N windows, T time, F features, K values that one run gives, W of them that are wanted, L interval levels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.rollout import Rollout
from server.tensors import SERIES, TIME_SECONDS, WINDOW, Tensors


class Ends(NamedTuple):
    """Lower and upper ends of the intervals of some windows, both [N, values ahead, L]."""

    lower: NDArray[np.float32]
    upper: NDArray[np.float32]


class Entry:
    """The windows, the values predicted so far, and where the call stands in the queue.

    A run of the window graph gives K values. A longer horizon is reached by sliding: the values are written behind the
    windows, into buffers long enough from the start, and the next run sees the slices [:, step : step + T]. Covariates
    and times to come are in the buffers already; time goes on by each window's last step. The number of the series
    stays. With a rollout, one run gives many of these steps, as long as that pays.
    """

    def __init__(
        self,
        windows_NTF: NDArray[np.float32],
        *,
        horizon: int,
        future_NHF: NDArray[np.float32] | None,
        deadline: float,
        enqueued: float,
        direct_horizon: int = 1,
        time_seconds_NT: NDArray[np.int64] | None = None,
        series_N1: NDArray[np.int64] | None = None,
        num_levels: int = 0,
        rollout: Rollout | None = None,
    ) -> None:
        """`future_NHF` [N, horizon - 1, F - 1]; `deadline` and `enqueued` on the caller's monotonic clock, seconds.

        With `num_levels` the ends of so many intervals are kept; there are none beyond `direct_horizon`.
        """
        self.num_windows, self.window = windows_NTF.shape[:2]
        self.horizon = horizon
        self.direct_horizon = direct_horizon
        self.deadline = deadline
        self.enqueued = enqueued
        self.closed = False
        # How many of its windows are in the queue; kept by the scheduler.
        self.queued_windows = 0
        self._rollout = rollout
        # How many values ahead were predicted of every window.
        self.step = 0
        self._aim()
        # First window not yet taken in this step, and how many of this step came back.
        self.cursor = 0
        self.answered = 0
        self.predictions_NH = np.empty((self.num_windows, horizon), np.float32)
        shape = (self.num_windows, horizon, num_levels)
        self.ends = Ends(np.empty(shape, np.float32), np.empty(shape, np.float32)) if num_levels else None
        if horizon > direct_horizon:
            num_fed_back = (horizon - 1) // direct_horizon * direct_horizon
            future_NHF = None if future_NHF is None else future_NHF[:, :num_fed_back]
            windows_NTF = extended(windows_NTF, num_fed_back, future_NHF)
            time_seconds_NT = None if time_seconds_NT is None else continued(time_seconds_NT, num_fed_back)
        self._windows = windows_NTF
        self._times = time_seconds_NT
        self._series = series_N1

    def windows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Windows [stop - start, T, F] of the current step."""
        return self._windows[start:stop, self.step : self.step + self.window]

    def inputs(self, start: int, stop: int) -> Tensors:
        """What the graph takes of windows `start` to `stop` in the current step."""
        steps = slice(self.step, self.step + self.window)
        tensors: Tensors = {WINDOW: self._windows[start:stop, steps]}
        if self._times is not None:
            tensors[TIME_SECONDS] = self._times[start:stop, steps]
        if self._series is not None:
            tensors[SERIES] = self._series[start:stop]
        return tensors

    def accept(self, start: int, stop: int, next_BW: NDArray[np.float32], ends: Ends | None = None) -> None:
        """Take in what the graph gave for windows `start` to `stop` in the current step, as far as it is wanted."""
        after = self.step + self.num_wanted
        self.predictions_NH[start:stop, self.step : after] = next_BW
        is_last = after == self.horizon
        if not is_last:
            self._windows[start:stop, self.window + self.step : self.window + after, 0] = next_BW
        if self.ends is not None and ends is not None:
            self.ends.lower[start:stop] = ends.lower
            self.ends.upper[start:stop] = ends.upper
        self.answered += stop - start
        if self.answered == self.num_windows:
            self.step = after
            self.answered = self.cursor = 0
            if not is_last:
                self._aim()

    def _aim(self) -> None:
        """Choose the graph of the next run, and how many of its values are wanted."""
        left = self.horizon - self.step
        rolls = self._rollout is not None and self._rollout.pays(left)
        self.rollout = self._rollout if rolls else None
        self.num_wanted = min(self.rollout.length if self.rollout else self.direct_horizon, left)

    @property
    def graph(self) -> str:
        """What the next run is of."""
        return self.rollout.graph if self.rollout else WINDOW

    @property
    def finished(self) -> bool:
        """Whether every prediction has been made."""
        return self.step == self.horizon


def extended(
    windows_NTF: NDArray[np.float32], num_steps: int, future_NSF: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """The windows with room behind them for so many values, [N, T + S, F], the covariates [N, S, F - 1] filled in."""
    num_windows, window, num_features = windows_NTF.shape
    buffer = np.empty((num_windows, window + num_steps, num_features), np.float32)
    buffer[:, :window] = windows_NTF
    if future_NSF is not None:
        buffer[:, window:, 1:] = future_NSF
    return buffer


def continued(time_seconds_NT: NDArray[np.int64], num_steps: int) -> NDArray[np.int64]:
    """The times [N, T] and as many more, [N, T + S], each as far from the one before it as the window's last."""
    last_N1 = time_seconds_NT[:, -1:]
    distance_N1 = last_N1 - time_seconds_NT[:, -2:-1]
    return np.concatenate((time_seconds_NT, last_N1 + distance_N1 * np.arange(1, num_steps + 1)), axis=1)
