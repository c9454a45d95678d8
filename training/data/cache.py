"""Rows too many for memory: a temporary file without a name, which vanishes with the process, however that ends.

It lies where `tempfile` puts things (TMPDIR). Rows are read from it by position and never mapped by us, so resident
memory holds the batches alone; the system's page cache keeps what is read often.

Shapes: R rows in all, L rows of a series, F features, B stretches.
"""

import os
import shutil
import tempfile
import weakref
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from training.data.rows import FloatArray, Gathered, Rows, stretches
from training.errors import DataError

# Rows turned into records at a time.
ROWS_AT_ONCE = 2**18


class TemporaryRecords:
    """Records of one dtype in a nameless temporary file, written and read by position."""

    def __init__(self, record: np.dtype[Any]) -> None:
        self.record = record
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed by `close` or with this object)
        self._finalizer = weakref.finalize(self, self._file.close)

    @property
    def is_closed(self) -> bool:
        """Whether the file is gone."""
        return not self._finalizer.alive

    @property
    def file(self) -> Any:
        """The open file. Raises DataError once it is closed."""
        if self.is_closed:
            raise DataError("the dataset is closed; its rows can no longer be read")
        return self._file

    def write(self, place: int, records_L: NDArray[Any]) -> None:
        """Put records at `place` and behind. Raises DataError where the disk is full."""
        rest = _bytes_of(np.ascontiguousarray(records_L))
        position = place * self.record.itemsize
        try:
            while rest:
                written = os.pwrite(self.file.fileno(), rest, position)
                position, rest = position + written, rest[written:]
        except OSError as error:
            raise DataError(
                f"the rows cannot be kept in {tempfile.gettempdir()}: {error.strerror}; TMPDIR names another folder"
            ) from error

    def read(self, place: int, length: int) -> NDArray[Any]:
        """The `length` records that begin at `place`, [L]."""
        records_L = np.empty(length, dtype=self.record)
        self._fill(self.file.fileno(), _bytes_of(records_L), place * self.record.itemsize)
        return records_L

    def read_each(self, places_B: NDArray[np.int64], length: int) -> NDArray[Any]:
        """The `length` records that begin at each of `places`, [B, L]."""
        records_BL = np.empty((len(places_B), length), dtype=self.record)
        into, size, descriptor = _bytes_of(records_BL), length * self.record.itemsize, self.file.fileno()
        for number, position in enumerate((places_B * self.record.itemsize).tolist()):
            self._fill(descriptor, into[number * size : (number + 1) * size], position)
        return records_BL

    @staticmethod
    def _fill(descriptor: int, into: memoryview, position: int) -> None:
        """Read until `into` is full: the system gives at most 2 GiB at once."""
        while into:
            num_bytes = os.preadv(descriptor, (into,), position)
            if not num_bytes:
                raise DataError(f"a temporary file in {tempfile.gettempdir()} is shorter than what was written to it")
            into, position = into[num_bytes:], position + num_bytes

    def close(self) -> None:
        """Give the disk space back."""
        self._finalizer()


def _bytes_of(records: NDArray[Any]) -> memoryview:
    return memoryview(records.reshape(-1).view(np.uint8).data)


class FileRows(Rows):
    """Rows in a temporary file, as float32, with their times. First `append`, then read."""

    def __init__(self, num_features: int, *, has_times: bool) -> None:
        self.dtype = np.dtype(np.float32)
        self.largest = np.zeros(num_features)
        self._has_times = has_times
        self._records = TemporaryRecords(record_of(num_features, has_times=has_times))
        self._num_rows = 0

    def __len__(self) -> int:
        return self._num_rows

    def append(self, values_LF: NDArray[np.float64], time_seconds_L: NDArray[np.int64] | None) -> None:
        """Write rows behind the others."""
        for start in range(0, len(values_LF), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            records_L = np.empty(len(values_LF[block]), dtype=self._records.record)
            records_L["values"] = values_LF[block]
            if time_seconds_L is not None:
                records_L["time_seconds"] = time_seconds_L[block]
            self.largest = np.maximum(self.largest, np.abs(values_LF[block]).max(axis=0))
            self._records.write(self._num_rows, records_L)
            self._num_rows += len(records_L)

    @property
    def values(self) -> FloatArray:
        """A map of the file, [R, F]: what is read of it counts as resident memory until the system needs it."""
        values_RF: FloatArray = np.memmap(self._records.file, dtype=self._records.record, mode="r")["values"]
        return values_RF

    @property
    def has_times(self) -> bool:
        """Whether the rows have times."""
        return self._has_times

    def gather(
        self, starts_B: NDArray[np.int64], length: int, dtype: DTypeLike | None = None, *, times: bool = True
    ) -> Gathered:
        """One read for each stretch, or for all those that begin one behind the other."""
        shape = (len(starts_B), length)
        values_BLF: FloatArray = np.empty((*shape, len(self.largest)), dtype=self.dtype if dtype is None else dtype)
        times_BL = np.empty(shape, dtype=np.int64) if times and self._has_times else None
        edges = [0, *(np.flatnonzero(np.diff(starts_B) != 1) + 1).tolist(), len(starts_B)]
        if 2 * len(edges) > len(starts_B):
            step = max(1, ROWS_AT_ONCE // length)
            edges = [*range(0, len(starts_B), step), len(starts_B)]
            read = self._apart
        else:
            read = self._in_a_row
        for start, stop in pairwise(edges):
            values, seconds = read(starts_B[start:stop], length)
            values_BLF[start:stop] = values.reshape(stop - start, length, -1)
            if times_BL is not None and seconds is not None:
                times_BL[start:stop] = seconds
        return Gathered(values_BLF, times_BL)

    def _apart(self, starts_B: NDArray[np.int64], length: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        records_BL = self._records.read_each(starts_B, length)
        return records_BL["values"], records_BL["time_seconds"] if self._has_times else None

    def _in_a_row(self, starts_B: NDArray[np.int64], length: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        records_L = self._records.read(int(starts_B[0]), len(starts_B) - 1 + length)
        values_BX = stretches(np.ascontiguousarray(records_L["values"]), length)
        if not self._has_times:
            return values_BX, None
        return values_BX, stretches(np.ascontiguousarray(records_L["time_seconds"]), length)

    def close(self) -> None:
        """Give the disk space back."""
        self._records.close()


def record_of(num_features: int, *, has_times: bool) -> np.dtype[Any]:
    """What a row takes in the file."""
    fields: list[tuple[Any, ...]] = [("values", np.float32, (num_features,))]
    return np.dtype([*fields, ("time_seconds", np.int64)] if has_times else fields)


def check_disk(what: str, num_bytes: int) -> None:
    """Raise DataError unless the temporary folder has room for `num_bytes`."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise DataError(
            f"{what} does not fit into memory and needs {num_bytes / 1e9:.3g} GB of disk in {folder}, where "
            f"{free / 1e9:.3g} GB are free; TMPDIR names another folder"
        )
