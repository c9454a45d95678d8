"""What a model of tests.artifacts must answer to any call, from the textbook's equations.

Shapes: N windows, T time, F features, K values that one run gives, L interval levels.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.artifact.limits import deviation
from tests.server.textbook import Float64, Textbook

# An id that no model knows.
STRANGER = "no such series"


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a caller asks: windows, and with them all that the model takes. `series` are ids."""

    windows: NDArray[np.float32]
    horizon: int = 1
    future: NDArray[np.float32] | None = None
    time_seconds: NDArray[np.int64] | None = None
    series: list[str] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """All but the windows, as keywords."""
        return {"horizon": self.horizon, "future": self.future, **self.context}

    @property
    def context(self) -> dict[str, Any]:
        """What the model takes beside values."""
        named = {"time_seconds": self.time_seconds, "series": self.series}
        return {name: value for name, value in named.items() if value is not None}


class Expected(NamedTuple):
    """Right answers [N, horizon], the ends of their intervals [N, K, L], and what 1 means in raw units [N, 1]."""

    next: Float64
    lower: Float64 | None
    upper: Float64 | None
    unit: Float64


class Oracle(Textbook):
    """One artifact's right answers."""

    def numbers(self, series: list[str]) -> NDArray[np.int64]:
        """The rows [N, 1] of the table for these ids; -1 where there is none."""
        return np.array([[self.ids.index(name) if name in self.ids else -1] for name in series], np.int64)

    def expect(self, call: Call) -> Expected:
        """The window slides over its own predictions, K at a time, the covariates to come and the times."""
        windows = call.windows.astype(np.float64)
        context: dict[str, NDArray[Any]] = {} if call.series is None else {"series": self.numbers(call.series)}
        times = call.time_seconds
        num_given, predictions, units = 0, [], []
        first: dict[str, Float64] = {}
        while num_given < call.horizon:
            if times is not None:
                context["time_seconds"] = times[:, -self.window :]
            found = self.run({"window": windows[:, -self.window :], **context})
            first = first or found
            predictions.append(found["next"])
            units.append(found.get("unit", np.ones((len(windows), 1))))
            for k in range(self.direct_horizon):
                row = found["next"][:, k : k + 1]
                if self.num_features > 1:
                    ahead = num_given + k
                    known = call.future is not None and ahead < call.future.shape[1]
                    others = call.future[:, ahead] if known and call.future is not None else np.nan * windows[:, 0, 1:]
                    row = np.concatenate((row, others.astype(np.float64)), axis=1)
                windows = np.concatenate((windows, row[:, None]), axis=1)
                if times is not None:
                    times = np.concatenate((times, 2 * times[:, -1:] - times[:, -2:-1]), axis=1)
            num_given += self.direct_horizon
        return Expected(
            next=np.concatenate(predictions, axis=1)[:, : call.horizon],
            lower=first["lower"][:, : call.horizon] if "lower" in first else None,
            upper=first["upper"][:, : call.horizon] if "upper" in first else None,
            unit=np.max(units, axis=0),
        )

    def predict(
        self, windows_NTF: NDArray[np.float32], horizon: int = 1, future_NHF: NDArray[np.float32] | None = None
    ) -> Float64:
        """Predictions [N, horizon] of a model that takes neither times nor series."""
        return self.expect(Call(windows=windows_NTF, horizon=horizon, future=future_NHF)).next

    # ---- calls of all kinds ----

    def random_call(self, generator: np.random.Generator, num_windows: int, horizon: int = 1) -> Call:
        """A call with all that the model takes: windows that no other answer fits, of any series, at any time."""
        series = times = None
        if self.ids:
            series = generator.choice(np.array([*self.ids, STRANGER], object), num_windows).tolist()
        if self.manifest.calendar:
            start = generator.integers(0, 2 * 10**9, (num_windows, 1))
            # An hour or so apart, and not evenly: what goes on is the last step.
            times = start + generator.integers(1800, 7200, (num_windows, self.window)).cumsum(axis=1)
        return Call(
            windows=self.random_windows(generator, num_windows, series),
            horizon=horizon,
            future=self.random_future(generator, num_windows, horizon, series),
            time_seconds=times,
            series=series,
        )

    def random_windows(
        self, generator: np.random.Generator, num_windows: int, series: list[str] | None = None
    ) -> NDArray[np.float32]:
        """Windows [N, T, F] at levels all over the place, so that no answer fits another window."""
        shape = (num_windows, self.window, self.num_features)
        level = generator.uniform(-1000, 1000, (num_windows, 1, 1))
        spread = self._weights["transform.scale"] * generator.standard_normal(shape)
        kind = self.manifest.scaling.kind
        if kind == "series":
            assert series is not None
            zero, unit = self._ruler(spread, self.numbers(series))
            return np.asarray(zero + unit * (level / 30 + spread), np.float32)
        if kind == "window":
            return np.asarray(level + generator.uniform(0.1, 10, (num_windows, 1, 1)) * spread, np.float32)
        if self.manifest.transform.kind == "standardize":
            # Squashed by the first cell: only values near the mean tell windows apart.
            level = self._weights["transform.mean"]
        return (level + spread).astype(np.float32)

    def random_future(
        self, generator: np.random.Generator, num_windows: int, horizon: int, series: list[str] | None = None
    ) -> NDArray[np.float32] | None:
        """Covariates [N, horizon - 1, F - 1]; None where the model has none or needs none."""
        if self.num_features == 1 or horizon <= self.direct_horizon:
            return None
        shape = (num_windows, horizon - 1, self.num_features)
        zero, unit = self._ruler(np.zeros(shape), None if series is None else self.numbers(series))
        values = self._weights["transform.mean"] + self._weights["transform.scale"] * generator.standard_normal(shape)
        return np.asarray((zero + unit * values)[:, :, 1:], np.float32)

    # ---- held against what came back ----

    def assert_right(self, found: NDArray[np.float32], expected: Float64 | Expected) -> None:
        """Within the artifact's own limit, once per step of the horizon: each step adds its own error to the last."""
        if isinstance(expected, Expected):
            self._assert_near(found, expected.next, expected.unit, expected.next.shape[1])
        else:
            self._assert_near(found, expected, np.ones((len(expected), 1)), expected.shape[1])

    def assert_ends_right(
        self,
        lower: NDArray[np.float32],
        upper: NDArray[np.float32],
        expected: Expected,
        places: list[int] | None = None,
    ) -> None:
        """The ends of the intervals, at all levels or those at some places, within the artifact's own limit."""
        assert expected.lower is not None
        assert expected.upper is not None
        chosen = slice(None) if places is None else places
        for found, right in ((lower, expected.lower), (upper, expected.upper)):
            self._assert_near(found, right[:, :, chosen], expected.unit, 1)
        assert (lower < upper).all()

    def _assert_near(self, found: NDArray[np.float32], expected: Float64, unit_N1: Float64, times: int) -> None:
        worst = deviation(found, expected, self.manifest.transform.scale * unit_N1, self.manifest.tolerance)
        assert worst.share_of_limit <= times, f"off by {worst.abs_error:.3g}, {worst.share_of_limit:.3g} × the limit"
        assert math.isfinite(worst.abs_error)
