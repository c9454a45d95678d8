"""FloatArray and IntArray messages to numpy arrays and back."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from nextvalue.v1.nextvalue_pb2 import FloatArray, IntArray
from server.errors import InvalidRequest
from server.transport.packed import FLOAT, SFIXED64, packed_values, with_packed_floats

D = TypeVar("D", bound=np.generic)

MAX_DIMENSIONS = 8
# Far above what a message can hold; beside an extent of 0, extents that numpy refuses would have no elements to miss.
MAX_ELEMENTS = 2**31
# The Open Inference Protocol's words for the two.
_DATATYPES = {FLOAT: "FP32", SFIXED64: "INT64"}


def checked_shape(field: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape as sent. Raises InvalidRequest if it is none."""
    extents = tuple(shape)
    if not 1 <= len(extents) <= MAX_DIMENSIONS:
        raise InvalidRequest(f"{field}.shape", list(extents)[:MAX_DIMENSIONS], "it must have 1 to 8 dimensions")
    if (smallest := min(extents)) < 0:
        raise InvalidRequest(f"{field}.shape", list(extents), "no extent may be negative")
    if math.prod(extents if smallest else (extent or 1 for extent in extents)) > MAX_ELEMENTS:
        raise InvalidRequest(f"{field}.shape", list(extents), f"it may have at most {MAX_ELEMENTS} elements")
    return extents


def from_raw(field: str, data: bytes, shape: tuple[int, ...], dtype: np.dtype[D]) -> NDArray[D]:
    """Little-endian bytes as an array, without a copy. Raises InvalidRequest on a wrong byte count."""
    expected = dtype.itemsize * math.prod(shape)
    if len(data) != expected:
        limit = f"shape {list(shape)} of {_DATATYPES[dtype]} has {expected} bytes"
        raise InvalidRequest(field, f"{len(data)} bytes", limit)
    return np.frombuffer(data, dtype).reshape(shape)


def from_values(field: str, values: NDArray[D], shape: tuple[int, ...]) -> NDArray[D]:
    """The elements of a packed field in their shape. Raises InvalidRequest on a wrong count."""
    expected = math.prod(shape)
    if len(values) != expected:
        raise InvalidRequest(field, f"{len(values)} values", f"shape {list(shape)} has {expected}")
    return values.reshape(shape)


@overload
def from_message(field: str, message: FloatArray) -> NDArray[np.float32]: ...
@overload
def from_message(field: str, message: IntArray) -> NDArray[np.int64]: ...
def from_message(field: str, message: FloatArray | IntArray) -> NDArray[np.float32] | NDArray[np.int64]:
    """The array of a message. Raises InvalidRequest if shape and elements disagree, or both spellings are filled."""
    shape = checked_shape(field, message.shape)
    if message.raw_values and message.values:
        raise InvalidRequest(field, "given as values and as raw_values", "exactly one of them may be filled")
    dtype: np.dtype[Any] = FLOAT if isinstance(message, FloatArray) else SFIXED64
    if message.raw_values:
        return from_raw(f"{field}.raw_values", message.raw_values, shape, dtype)
    return from_values(f"{field}.values", packed_values(message, message.VALUES_FIELD_NUMBER, dtype), shape)


def to_raw(array: NDArray[np.float32]) -> bytes:
    """Little-endian bytes in C order."""
    return array.astype(FLOAT, copy=False).tobytes()


def to_message(array: NDArray[np.float32], *, raw: bool) -> FloatArray:
    """A FloatArray, as raw bytes or as packed values."""
    if raw:
        return FloatArray(shape=array.shape, raw_values=to_raw(array))
    return with_packed_floats(FloatArray(shape=array.shape), FloatArray.VALUES_FIELD_NUMBER, array)
