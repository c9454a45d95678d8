"""Tensors of datatype BYTES: here, texts. Raw, each element is its length in 4 bytes, little endian, and its bytes."""

import math
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidRequest

_LENGTH = struct.Struct("<I")


def from_raw_texts(field: str, data: bytes, shape: tuple[int, ...]) -> NDArray[np.object_]:
    """Strings in their shape. Raises InvalidRequest if the bytes are not as many elements, each of them UTF-8."""
    elements: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        if start > len(data):
            raise InvalidRequest(field, f"{len(data)} bytes", f"element {len(elements)} breaks off in its length")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            limit = f"element {len(elements)} is to end at byte {position}"
            raise InvalidRequest(field, f"{len(data)} bytes", limit)
        elements.append(data[start:position])
    return from_texts(field, elements, shape)


def from_texts(field: str, elements: Iterable[bytes], shape: tuple[int, ...]) -> NDArray[np.object_]:
    """Strings in their shape. Raises InvalidRequest if there are not as many elements, each of them UTF-8."""
    texts: list[str] = []
    for k, element in enumerate(elements):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{field}[{k}]", f"{len(element)} bytes", f"it must be UTF-8: {error}") from None
    expected = math.prod(shape)
    if len(texts) != expected:
        raise InvalidRequest(field, f"{len(texts)} elements", f"shape {list(shape)} has {expected}")
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array.reshape(shape)
