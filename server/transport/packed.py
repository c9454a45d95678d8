"""Packed fields of fixed width as arrays, without a Python number per element.

On the wire a packed `repeated float` is its tag, its length in bytes and the little-endian array itself, so a
message's own serialization, which is a copy in C, holds the array (protobuf encoding guide, "Packed Repeated
Fields"). Going through the field's elements instead takes a second per eight million, during which nothing else runs.
"""

from typing import TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

FLOAT, SFIXED64 = np.dtype("<f4"), np.dtype("<i8")
# Wire types.
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}

M = TypeVar("M", bound=Message)
D = TypeVar("D", bound=np.generic)


def packed_values(message: Message, number: int, dtype: np.dtype[D]) -> NDArray[D]:
    """The elements of the packed field `number`, of the width of `dtype`, read only; empty if the field is."""
    data = message.SerializeToString()
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
            if tag >> 3 == number:
                return np.frombuffer(data, dtype, count=length // dtype.itemsize, offset=position)
            position += length
        elif kind == _VARINT:
            _, position = _varint(data, position)
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:  # a group among the fields that this version of the message does not know; it follows those it does
            break
    return np.empty(0, dtype)


def with_packed_floats(message: M, number: int, array: NDArray[np.float32]) -> M:
    """The message, with the array's elements in C order added to its packed float field `number`."""
    data = array.astype(FLOAT, copy=False).tobytes()
    if data:
        message.MergeFromString(b"".join((_encoded(number << 3 | _LENGTH_DELIMITED), _encoded(len(data)), data)))
    return message


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A varint at `position`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _encoded(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
