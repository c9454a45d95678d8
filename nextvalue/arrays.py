"""Arrays and the wire's `FloatArray` and `IntArray`."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nextvalue.errors import invalid
from nextvalue.v1.nextvalue_pb2 import FloatArray

Float32Array = NDArray[np.float32]
Int64Array = NDArray[np.int64]


def to_float32(values: ArrayLike, *, field: str) -> Float32Array:
    """Numbers of any kind as the float32 the wire carries.

    Raises:
        InvalidArgument: `values` is ragged, is not numbers, or holds one that is not finite in float32.
    """
    try:
        array = np.asarray(values)
        if array.dtype == np.float32:
            array_32 = array
        else:
            with np.errstate(over="ignore"):  # too large becomes infinite, which is refused by name below
                array_32 = array.astype(np.float32, casting="unsafe" if array.dtype == object else "same_kind")
    except (TypeError, ValueError) as error:
        raise invalid(f"{field} is not an array of real numbers: {error}") from error
    finite = np.isfinite(array_32)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise invalid(f"{field}{list(index)} is {array[index]}: must be finite as float32")
    return array_32


def floats(array: Float32Array) -> bytes:
    """The elements in C order, little endian."""
    return array.astype("<f4", copy=False).tobytes()


def integers(array: Int64Array) -> bytes:
    """The elements in C order, little endian."""
    return array.astype("<i8", copy=False).tobytes()


def pack(array: Float32Array) -> FloatArray:
    """The array as a message."""
    return FloatArray(shape=array.shape, raw_values=floats(array))


def unpack(message: FloatArray, *, field: str) -> Float32Array:
    """The message as an array of its own memory, whichever way its elements are filled in.

    Raises:
        ValueError: the shape and the elements do not agree, or the elements are there twice.
    """
    shape = tuple(message.shape)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"{field} has shape {list(shape)}: no extent may be negative")
    if message.raw_values and message.values:
        raise ValueError(f"{field} has both values and raw_values: exactly one may be filled")
    count, num_bytes = math.prod(shape), len(message.raw_values)
    if num_bytes:
        if num_bytes != 4 * count:
            raise ValueError(f"{field}.raw_values has {num_bytes} bytes: shape {list(shape)} needs {4 * count}")
        return np.frombuffer(message.raw_values, "<f4").astype(np.float32).reshape(shape)
    if len(message.values) != count:
        raise ValueError(f"{field}.values has {len(message.values)} elements: shape {list(shape)} needs {count}")
    return np.fromiter(message.values, np.float32, count).reshape(shape)
