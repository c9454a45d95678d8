"""Messages between a server and a reference process: a JSON header and raw arrays, never pickle.

A frame on the wire, all integers little endian:

    uint32  length of the header
    bytes   header, JSON: {"fields": {...}, "arrays": [{"name", "dtype", "shape"}, ...]}
    bytes   the arrays, C order, little endian, one after another
"""

import math
import socket
import struct
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 1 << 20
MAX_ARRAY_BYTES = 1 << 28

_LENGTH = struct.Struct("<I")


class FrameError(ValueError):
    """The other side sent what is not a frame, or one beyond the limits; the connection cannot be used further."""


class _ArrayHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    dtype: Literal["float32", "float64", "int64"]
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fields: dict[str, str | int | float]
    arrays: list[_ArrayHeader]


class Frame(msgspec.Struct, frozen=True):
    """Small named fields, and named arrays."""

    fields: dict[str, str | int | float]
    arrays: dict[str, NDArray[Any]]


def send(connection: socket.socket, frame: Frame) -> None:
    """Write one frame."""
    arrays = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in frame.arrays.items()}
    header = _Header(
        fields=frame.fields,
        arrays=[_ArrayHeader(name, array.dtype.name, list(array.shape)) for name, array in arrays.items()],  # type: ignore[arg-type]  # checked on receipt
    )
    encoded = msgspec.json.encode(header)
    connection.sendall(b"".join((_LENGTH.pack(len(encoded)), encoded, *(array.tobytes() for array in arrays.values()))))


def receive(connection: socket.socket) -> Frame | None:
    """Read one frame; None if the other side closed before it began. Raises FrameError on anything else."""
    prefix = _receive_exactly(connection, _LENGTH.size, may_end=True)
    if prefix is None:
        return None
    (length,) = _LENGTH.unpack(prefix)
    if length > MAX_HEADER_BYTES:
        raise FrameError(f"header has {length} bytes; the limit is {MAX_HEADER_BYTES}")
    try:
        header = msgspec.json.decode(_receive_exactly(connection, length) or b"", type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"header: {error}") from None
    sizes = [math.prod(item.shape) * np.dtype(item.dtype).itemsize for item in header.arrays]
    if sum(sizes) > MAX_ARRAY_BYTES:
        raise FrameError(f"arrays have {sum(sizes)} bytes; the limit is {MAX_ARRAY_BYTES}")
    arrays = {}
    for item, size in zip(header.arrays, sizes, strict=True):
        data = _receive_exactly(connection, size) or b""
        try:
            arrays[item.name] = np.frombuffer(data, np.dtype(item.dtype).newbyteorder("<")).reshape(item.shape)
        except ValueError as error:  # more dimensions than numpy has, or one beyond its integers beside a zero
            raise FrameError(f"array {item.name!r}: {error}") from None
    return Frame(header.fields, arrays)


def _receive_exactly(connection: socket.socket, size: int, *, may_end: bool = False) -> bytes | None:
    parts = []
    missing = size
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            if may_end and missing == size:
                return None
            raise FrameError(f"connection closed {missing} bytes before the end of a frame")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
