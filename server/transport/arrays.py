"""FloatArray messages to numpy arrays and back."""

import math
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from nextvalue.v1.nextvalue_pb2 import FloatArray
from server.errors import InvalidRequest
from server.transport.packed import packed_floats, with_packed_floats

MAX_DIMENSIONS = 8
# Far above what a message can hold; beside an extent of 0, extents that numpy refuses would have no elements to miss.
MAX_ELEMENTS = 2**31
_LITTLE_ENDIAN = np.dtype("<f4")


def checked_shape(field: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape as sent. Raises InvalidRequest if it is none."""
    extents = tuple(shape)
    if not 1 <= len(extents) <= MAX_DIMENSIONS:
        raise InvalidRequest(f"{field}.shape", list(extents)[:MAX_DIMENSIONS], "it must have 1 to 8 dimensions")
    if min(extents) < 0:
        raise InvalidRequest(f"{field}.shape", list(extents), "no extent may be negative")
    if math.prod(extent or 1 for extent in extents) > MAX_ELEMENTS:
        raise InvalidRequest(f"{field}.shape", list(extents), f"it may have at most {MAX_ELEMENTS} elements")
    return extents


def from_raw(field: str, data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Little-endian float32 bytes as an array, without a copy. Raises InvalidRequest on a wrong byte count."""
    expected = 4 * math.prod(shape)
    if len(data) != expected:
        raise InvalidRequest(field, f"{len(data)} bytes", f"shape {list(shape)} of FP32 has {expected} bytes")
    return np.frombuffer(data, _LITTLE_ENDIAN).reshape(shape)


def from_values(field: str, message: Message, number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The packed floats in field `number` of a message, as an array. Raises InvalidRequest on a wrong count."""
    values = packed_floats(message, number)
    expected = math.prod(shape)
    if len(values) != expected:
        raise InvalidRequest(field, f"{len(values)} values", f"shape {list(shape)} has {expected}")
    return values.reshape(shape)


def from_message(field: str, message: FloatArray) -> NDArray[np.float32]:
    """The array of a FloatArray. Raises InvalidRequest if shape and elements disagree, or both spellings are filled."""
    shape = checked_shape(field, message.shape)
    if message.raw_values and message.values:
        raise InvalidRequest(field, "given as values and as raw_values", "exactly one of them may be filled")
    if message.raw_values:
        return from_raw(f"{field}.raw_values", message.raw_values, shape)
    return from_values(f"{field}.values", message, FloatArray.VALUES_FIELD_NUMBER, shape)


def to_raw(array: NDArray[np.float32]) -> bytes:
    """Little-endian bytes in C order."""
    return array.astype(_LITTLE_ENDIAN, copy=False).tobytes()


def to_message(array: NDArray[np.float32], *, raw: bool) -> FloatArray:
    """A FloatArray, as raw bytes or as packed values."""
    if raw:
        return FloatArray(shape=array.shape, raw_values=to_raw(array))
    return with_packed_floats(FloatArray(shape=array.shape), FloatArray.VALUES_FIELD_NUMBER, array)
