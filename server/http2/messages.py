"""What gRPC puts into HTTP/2: length-prefixed messages, timeouts, and status in trailers."""

import base64
import re
import zlib
from collections.abc import Iterable, Iterator

import grpc

from server.http2.headers import write

PREFIX_BYTES = 5
ENCODINGS = "identity,gzip,deflate"
_WINDOW_BITS = {"gzip": 31, "deflate": 15}

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)

RESPONSE = write([(":status", "200"), ("content-type", "application/grpc"), ("grpc-accept-encoding", ENCODINGS)])
OK = write([("grpc-status", "0")])


class Refused(Exception):
    """The call ends with this status, and nothing else."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def timeout_seconds(text: str) -> float:
    """What `grpc-timeout` says. Raises Refused."""
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise Refused(grpc.StatusCode.INTERNAL, f"grpc-timeout is {text[:40]!r}")
    return int(found.group(1)) * _UNITS[found.group(2)]


def check_encoding(encoding: str) -> None:
    """Raises Refused if a `grpc-encoding` is none of ENCODINGS."""
    if encoding not in ("identity", *_WINDOW_BITS):
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"grpc-encoding is {encoding[:40]!r}; taken are {ENCODINGS}")


def packed(message: bytes) -> bytes:
    """A message as it is sent."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class MessageReader:
    """Takes in the data of a stream and gives out whole messages."""

    def __init__(self, encoding: str, *, max_bytes: int) -> None:
        """`encoding` is the request's `grpc-encoding`, one of ENCODINGS."""
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed = PREFIX_BYTES

    def whole(self, data: bytes) -> bytes | None:
        """The message, if nothing came before and this is one that is not compressed; else None, and `take` it."""
        size = len(data) - PREFIX_BYTES
        fits = not self._size and 0 <= size <= self._max_bytes and data[0] == 0
        return data[PREFIX_BYTES:] if fits and int.from_bytes(data[1:PREFIX_BYTES], "big") == size else None

    @property
    def is_partial(self) -> bool:
        """Whether there is a beginning of a message without its end."""
        return self._size > 0

    @property
    def num_bytes(self) -> int:
        """How many bytes are kept."""
        return self._size

    def take(self, data: bytes) -> Iterator[bytes]:
        """Messages that are whole with this. Raises Refused."""
        self._pieces.append(data)
        self._size += len(data)
        while self._size >= self._needed:
            joined = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            size = int.from_bytes(joined[1:PREFIX_BYTES], "big")
            if size > self._max_bytes:
                raise _too_large(size, self._max_bytes)
            end = PREFIX_BYTES + size
            if len(joined) < end:
                self._pieces, self._needed = [joined], end
                return
            self._pieces = [joined[end:]] if len(joined) > end else []
            self._size, self._needed = len(joined) - end, PREFIX_BYTES
            yield self._plain(joined[0], joined[PREFIX_BYTES:end])

    def _plain(self, flag: int, message: bytes) -> bytes:
        if flag == 0:
            return message
        if flag > 1 or self._encoding == "identity":
            raise Refused(grpc.StatusCode.INTERNAL, "a compressed message without a grpc-encoding")
        inflated = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        try:
            plain = inflated.decompress(message, self._max_bytes + 1)
        except zlib.error as error:
            raise Refused(grpc.StatusCode.INTERNAL, f"{self._encoding}: {error}") from None
        if len(plain) > self._max_bytes:
            raise _too_large(len(plain), self._max_bytes)
        return plain


def _too_large(size: int, limit: int) -> Refused:
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"a message of {size} bytes; the limit is {limit}")


def trailers(code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """The block that ends a call whose headers were sent."""
    if code is grpc.StatusCode.OK and not details and not metadata:
        return OK
    return write(_status(code, details, metadata))


def trailers_only(code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]] = ()) -> bytes:
    """The block that is all of a call's answer."""
    return RESPONSE + write(_status(code, details, metadata))


def _status(code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str]]:
    found = [("grpc-status", str(code.value[0]))]
    if details:
        found.append(("grpc-message", _percent_encoded(details)))
    for key, value in metadata:
        raw = value.encode() if isinstance(value, str) else value
        found.append(
            (key, base64.b64encode(raw).decode().rstrip("=") if key.endswith("-bin") else raw.decode("latin-1"))
        )
    return found


def _percent_encoded(details: str) -> str:
    """Printable ASCII stays, but for the percent sign."""
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}" for byte in details.encode("utf-8")
    )


def metadata_of(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str | bytes], ...]:
    """A caller's own: neither HTTP's nor gRPC's. Raises Refused on binary values that are none."""
    found: list[tuple[str, str | bytes]] = []
    for key, value in headers:
        if key.startswith((":", "grpc-")) or key in ("te", "content-type"):
            continue
        if key.endswith("-bin"):
            try:
                found += [(key, base64.b64decode(part + "=" * (-len(part) % 4))) for part in value.split(",")]
            except ValueError:
                raise Refused(grpc.StatusCode.INTERNAL, f"{key[:40]} is not base64") from None
        else:
            found.append((key, value))
    return tuple(found)
