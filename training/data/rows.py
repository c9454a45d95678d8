"""Where the rows of all series lie, one series after the other: in memory, or in a file (`training.data.cache`).

Shapes: R rows in all, F features, B stretches of L rows.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

FloatArray = NDArray[np.floating[Any]]


class Gathered(NamedTuple):
    """Stretches of rows: values [B, L, F] and, where the rows have times, UTC seconds since 1970 [B, L]."""

    values: FloatArray
    time_seconds: NDArray[np.int64] | None


class Rows(ABC):
    """R rows of F values. `largest` [F] is the greatest magnitude of each feature."""

    dtype: np.dtype[Any]
    largest: NDArray[np.float64]

    @abstractmethod
    def __len__(self) -> int:
        """R."""

    @property
    @abstractmethod
    def values(self) -> FloatArray:
        """All of them, [R, F]; of rows in a file a map, which comes into memory as far as it is read."""

    @property
    @abstractmethod
    def has_times(self) -> bool:
        """Whether the rows have times."""

    @abstractmethod
    def gather(
        self, starts_B: NDArray[np.int64], length: int, dtype: DTypeLike | None = None, *, times: bool = True
    ) -> Gathered:
        """The `length` rows that begin at each of `starts`, in the rows' own precision or the one asked for.

        Every such stretch must lie in the rows. `times` may be left out.
        """

    def read(self, start: int, stop: int) -> Gathered:
        """Rows `start` up to, without, `stop`: values [L, F] and times [L]."""
        values_1LF, times_1L = self.gather(np.array([start]), stop - start)
        return Gathered(values_1LF[0], None if times_1L is None else times_1L[0])

    def close(self) -> None:  # noqa: B027 (memory needs none)
        """Give back what the rows occupy outside memory."""


class MemoryRows(Rows):
    """Rows in memory, as float64; asked for in float32, from a copy made once."""

    def __init__(self, values_RF: NDArray[np.float64], time_seconds_R: NDArray[np.int64] | None = None) -> None:
        self._arrays: dict[str, NDArray[Any]] = {"float64": np.ascontiguousarray(values_RF)}
        if time_seconds_R is not None:
            self._arrays["time"] = np.ascontiguousarray(time_seconds_R)
        self._stretches: dict[tuple[str, int], NDArray[Any]] = {}
        self.dtype = np.dtype(np.float64)
        self.largest = np.abs(values_RF).max(axis=0, initial=0.0)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def values(self) -> FloatArray:
        """All of them, [R, F]."""
        return self._arrays["float64"]

    @property
    def has_times(self) -> bool:
        """Whether the rows have times."""
        return "time" in self._arrays

    def gather(
        self, starts_B: NDArray[np.int64], length: int, dtype: DTypeLike | None = None, *, times: bool = True
    ) -> Gathered:
        """Copies of the rows."""
        precision = "float64" if dtype is None else np.dtype(dtype).name
        if precision not in self._arrays:
            self._arrays[precision] = self.values.astype(precision)
        values_BLF = self._view(precision, length)[starts_B].reshape(len(starts_B), length, self.values.shape[1])
        return Gathered(values_BLF, self._view("time", length)[starts_B] if times and self.has_times else None)

    def _view(self, name: str, length: int) -> NDArray[Any]:
        key = (name, length)
        if key not in self._stretches:
            self._stretches[key] = stretches(self._arrays[name], length)
        return self._stretches[key]


def stretches(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """A view of contiguous rows whose item i is rows i to i + length, one number behind the other.

    Picking items of it copies whole stretches; an index for every row of every stretch would be as large again.
    """
    shape = (max(0, len(rows) - length + 1), length * math.prod(rows.shape[1:]))
    return np.lib.stride_tricks.as_strided(rows, shape, (rows.strides[0], rows.itemsize), writeable=False)
