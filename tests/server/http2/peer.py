"""A client's side of a connection, in bytes, and a handler that remembers what it was told."""

import hpack

from server.http2 import frames
from server.http2.connection import Connection
from server.http2.headers import Headers
from server.http2.limits import Limits

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/s/M"),
    (":authority", "here"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Told:
    """What a connection told its handler. `credits` is what it hears of data."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, Headers, bool]] = []
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: list[int] = []
        self.pongs: list[bytes] = []
        self.credits = True

    def on_request(self, stream: int, headers: Headers, *, ends: bool) -> None:
        self.requests.append((stream, headers, ends))
        self.data[stream] = b""
        if ends:
            self.ended.add(stream)

    def on_data(self, stream: int, data: bytes, *, ends: bool) -> bool:
        assert stream not in self.ended, "data behind the end"
        self.data[stream] += data
        if ends:
            self.ended.add(stream)
        return self.credits

    def on_reset(self, stream: int) -> None:
        self.resets.append(stream)

    def on_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)


class Peer:
    """Feeds a connection and reads what it sends."""

    def __init__(self, limits: Limits | None = None, *, settings: dict[frames.Setting, int] | None = None) -> None:
        self.told = Told()
        self._sent = b""
        self.connection = Connection(self.told, self._write, limits)
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self.connection.start()
        self.connection.receive(frames.PREFACE + frames.settings(settings or {}))
        self.first = self.frames()

    def _write(self, data: bytes) -> None:
        self._sent += data

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of all that was sent since."""
        data, self._sent = self._sent, b""
        found = []
        while data:
            length = int.from_bytes(data[:3], "big")
            found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
            data = data[9 + length :]
        return found

    def send(self, *sent: bytes) -> list[tuple[int, int, int, bytes]]:
        """Give these frames; returns the answer."""
        self.connection.receive(b"".join(sent))
        return self.frames()

    def headers(self, stream: int, headers: list[tuple[str, str]] | None = None, *, ends: bool = False) -> bytes:
        block = self._encoder.encode(REQUEST if headers is None else headers)
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        return frames.frame(frames.HEADERS, flags, stream, block)

    def data(self, stream: int, data: bytes, *, ends: bool = True) -> bytes:
        return frames.frame(frames.DATA, frames.END_STREAM if ends else 0, stream, data)

    def read_headers(self, block: bytes) -> list[tuple[str, str]]:
        return [(str(name), str(value)) for name, value in self._decoder.decode(block)]


def fault(found: list[tuple[int, int, int, bytes]]) -> frames.Code | None:
    """Why the connection was closed; None if it was not."""
    for kind, _, _, payload in found:
        if kind == frames.GOAWAY and (code := frames.Code(int.from_bytes(payload[4:8], "big"))):
            return code
    return None
