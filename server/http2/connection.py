"""One HTTP/2 connection as the server sees it: frames in, frames out; no socket and no clock.

What comes in is told to a Handler; what goes out is given to `write` as bytes. Flow control is kept both ways: a peer's
data is credited as it is taken, and what exceeds the peer's windows, or comes while the socket is full, waits here.
"""

from collections.abc import Callable
from typing import ClassVar

from server.http2 import frames
from server.http2.frames import Code, ConnectionFault, Setting
from server.http2.handler import NOBODY, Handler, nowhere
from server.http2.headers import HeaderReader
from server.http2.limits import Limits
from server.http2.stream import Stream


class Connection:
    """Streams, windows and settings.

    A peer that resets streams before they are answered, pings, sends settings or empty frames makes us work for
    nothing. Each counts 1, each call that is answered takes 1 away, and beyond `max_nuisances` the connection ends;
    `forgive` them from time to time.
    """

    def __init__(self, handler: Handler, write: Callable[[bytes], None], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.is_closed = False
        self._handler = handler
        self._write = write
        self._reader = HeaderReader(max_bytes=self.limits.max_header_bytes)
        self._buffer = b""
        self._has_preface = self._has_settings = False
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._is_going_away = False
        self._nuisances = 0
        # Of a header block that goes on in CONTINUATION frames: its stream, whether that ends, and what came.
        self._open_block: tuple[int, bool, bytes] | None = None
        self._receive_window = frames.DEFAULT_WINDOW
        self._credit = 0
        self._send_window = self._initial_send_window = frames.DEFAULT_WINDOW
        self._max_frame_bytes = frames.SMALLEST_FRAME
        self._is_writable = True

    def start(self) -> None:
        """Tell the peer what it may do."""
        limits = self.limits
        grown = limits.connection_window_bytes - self._receive_window
        self._receive_window = limits.connection_window_bytes
        self._write(
            frames.settings({
                Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
                Setting.INITIAL_WINDOW_SIZE: limits.window_bytes,
                Setting.MAX_FRAME_SIZE: limits.max_frame_bytes,
                Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
            })
            + frames.window_update(0, grown)
        )  # fmt: skip

    def let_go(self) -> None:
        """The peer is gone: nothing more is told or written, and nothing hangs together in a circle."""
        self.is_closed = True
        self._handler = NOBODY
        self._write = nowhere

    def forgive(self) -> None:
        """Forget the nuisances so far."""
        self._nuisances = 0

    @property
    def has_begun(self) -> bool:
        """Whether the peer speaks HTTP/2, and is still spoken to."""
        return self._has_settings and not self.is_closed

    # ---- in ----

    def receive(self, data: bytes) -> None:
        """Take in what came. After a fault the peer is told, and the connection is closed."""
        if self.is_closed:
            return
        try:
            self._buffer = self._take(self._buffer + data if self._buffer else data)
        except ConnectionFault as fault:
            self.close(fault.code, str(fault))

    def _take(self, data: bytes) -> bytes:
        """Handle all whole frames; what is left of a frame is returned."""
        start, size = 0, len(data)
        if not self._has_preface:
            if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "no HTTP/2")
            if size < len(frames.PREFACE):
                return data
            self._has_preface, start = True, len(frames.PREFACE)
        while size - start >= frames.HEADER_BYTES and not self.is_closed:
            length = int.from_bytes(data[start : start + 3], "big")
            if length > self.limits.max_frame_bytes:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = start + frames.HEADER_BYTES + length
            if end > size:
                break
            stream = int.from_bytes(data[start + 5 : start + 9], "big") & 0x7FFFFFFF
            self._frame(data[start + 3], data[start + 4], stream, data[start + frames.HEADER_BYTES : end])
            start = end
        return data[start:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._open_block is not None and kind != frames.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was left open")
        if not self._has_settings and kind != frames.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == frames.DATA:
            self._on_data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream, payload)
        elif kind in self._CONTROL:
            self._CONTROL[kind](self, flags, stream, payload)
        # Frames of kinds that nobody knows are passed over (RFC 9113, section 5.5).

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._credit += size
        if self._credit > self.limits.connection_window_bytes // 2:
            self._write(frames.window_update(0, self._credit))
            self._receive_window += self._credit
            self._credit = 0
        stream = self._streams.get(number)
        if stream is None or stream.is_received:
            self._check_was_open(number)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the stream's window")
        ends = bool(flags & frames.END_STREAM)
        stream.is_received = ends
        if not size and not ends:
            self._nuisance()
        if self._handler.on_data(number, frames.unpadded(payload, flags), ends=ends):
            self.credit(number, size)

    def credit(self, number: int, size: int) -> None:
        """Let the peer send so much more on a stream."""
        stream = self._streams.get(number)
        if stream is None or stream.is_received:
            return
        stream.credit += size
        if stream.credit > self.limits.window_bytes // 2:
            self._write(frames.window_update(number, stream.credit))
            stream.receive_window += stream.credit
            stream.credit = 0

    def _check_was_open(self, number: int) -> None:
        """A frame of a stream that has ended here may have been on its way; one that never began is a fault."""
        if number == 0 or number % 2 == 0 or number > self._last_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} was never opened")
        self._nuisance()

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        block = frames.unpadded(payload, flags)
        if flags & frames.PRIORITIZED:
            if len(block) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS without its priority")
            block = block[5:]
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._on_block(number, block, ends=ends)
        else:
            self._open_block = (number, ends, block)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._open_block is None or self._open_block[0] != number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, ends, begun = self._open_block
        block = begun + payload
        self._check_size(block)
        self._nuisance()
        self._open_block = (number, ends, block)
        if flags & frames.END_HEADERS:
            self._open_block = None
            self._on_block(number, block, ends=ends)

    def _check_size(self, block: bytes) -> None:
        size, most = len(block), self.limits.max_header_bytes
        if size > most:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"headers of {size} bytes; at most {most} are taken")

    def _on_block(self, number: int, block: bytes, *, ends: bool) -> None:
        self._check_size(block)
        # Read in any case, or the table would be out of step.
        headers = self._reader.read(block)
        stream = self._streams.get(number)
        if stream is not None:
            if stream.is_received or not ends:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"headers in the middle of stream {number}")
            stream.is_received = True
            self._handler.on_data(number, b"", ends=True)
            return
        if number <= self._last_stream:
            self._check_was_open(number)
            return
        if number % 2 == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} is not a client's")
        self._last_stream = number
        if self._is_going_away or len(self._streams) >= self.limits.max_streams:
            self._nuisance()
            self._write(frames.reset(number, Code.REFUSED_STREAM))
            return
        stream = Stream(send_window=self._initial_send_window, receive_window=self.limits.window_bytes)
        stream.is_received = ends
        self._streams[number] = stream
        self._handler.on_request(number, headers, ends=ends)

    def _on_reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM is not of 4 bytes")
        if number not in self._streams:
            self._check_was_open(number)
            return
        self._nuisance()
        del self._streams[number]
        self._handler.on_reset(number)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS acknowledged with a payload")
            return
        for key, value in frames.read_settings(payload):
            if key == Setting.INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.send_window += value - self._initial_send_window
                    if stream.send_window > frames.LARGEST_WINDOW:
                        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window beyond its bounds")
                self._initial_send_window = value
            elif key == Setting.MAX_FRAME_SIZE:
                self._max_frame_bytes = value
        if self._has_settings:
            self._nuisance()
        self._has_settings = True
        self._write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._flush_all()

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is not of 8 bytes")
        if flags & frames.ACK:
            self._handler.on_pong(payload)
        else:
            self._nuisance()
            self._write(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_go_away(self, _: int, number: int, payload: bytes) -> None:
        if number or len(payload) < 8:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY that is none")

    def _on_window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not of 4 bytes")
        increment = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if not increment:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if number:
            stream = self._streams.get(number)
            if stream is None:
                self._check_was_open(number)
                # On its way when the answer ended it: nothing to hold against a peer.
                self._nuisances -= 1
                return
            stream.send_window += increment
            if stream.send_window > frames.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window beyond its bounds")
            self._flush(number, stream)
            return
        self._send_window += increment
        if self._send_window > frames.LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window beyond its bounds")
        self._flush_all()

    def _on_priority(self, _: int, number: int, payload: bytes) -> None:
        if not number or len(payload) != 5:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY that is none")
        self._nuisance()

    def _on_push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")

    def _nuisance(self) -> None:
        self._nuisances += 1
        if self._nuisances > self.limits.max_nuisances:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that serve no call")

    # ---- out ----

    @property
    def num_streams(self) -> int:
        """How many are open."""
        return len(self._streams)

    def respond(self, number: int, head: bytes, data: bytes, tail: bytes) -> None:
        """A whole answer: header block, data, and the block that ends the stream. Nothing if the stream has gone."""
        stream = self._streams.get(number)
        if stream is None:
            return
        size, name = len(data), number.to_bytes(4, "big")
        fits = size <= self._max_frame_bytes and size <= self._send_window and size <= stream.send_window
        if fits and self._is_writable and stream.is_received:
            self._send_window -= size
            self._end(number)
            self._write(
                b"%b\x01\x04%b%b%b\0\0%b%b%b\x01\x05%b%b"
                % (_length(head), name, head, size.to_bytes(3, "big"), name, data, _length(tail), name, tail)
            )
            return
        self.send_headers(number, head)
        self.send_data(number, data)
        self.finish(number, tail)

    def send_headers(self, number: int, block: bytes) -> None:
        """The header block that begins an answer."""
        if number in self._streams:
            self._write(frames.frame(frames.HEADERS, frames.END_HEADERS, number, block))

    def send_data(self, number: int, data: bytes) -> None:
        """Data, as soon as the peer's windows and the socket have room."""
        stream = self._streams.get(number)
        if stream is not None and data:
            stream.outbox.append((data, False))
            self._flush(number, stream)

    def finish(self, number: int, block: bytes) -> None:
        """The block that ends an answer, behind all its data."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.outbox.append((block, True))
            self._flush(number, stream)

    def waits(self, number: int) -> bool:
        """Whether some of what a stream was given to send is still here."""
        stream = self._streams.get(number)
        return stream is not None and bool(stream.outbox)

    def reset(self, number: int, code: Code) -> None:
        """Give a stream up."""
        if self._streams.pop(number, None) is not None:
            self._write(frames.reset(number, code))

    def writable(self, *, yes: bool) -> None:
        """Whether the socket takes more."""
        self._is_writable = yes
        if yes:
            self._flush_all()

    def ping(self, payload: bytes) -> None:
        """Ask for a sign of life: `on_pong` with these 8 bytes."""
        self._write(frames.frame(frames.PING, 0, 0, payload))

    def warn(self) -> None:
        """Ask the peer to go elsewhere; streams that are on their way are still taken, until `go_away`."""
        if not self._is_going_away and not self.is_closed:
            self._write(frames.go_away(frames.LAST_STREAM, Code.NO_ERROR))

    def go_away(self) -> None:
        """Take no new streams; those that are open go on."""
        if not self._is_going_away and not self.is_closed:
            self._is_going_away = True
            self._write(frames.go_away(self._last_stream, Code.NO_ERROR))

    def close(self, code: Code, message: str = "") -> None:
        """End the connection; all streams with it."""
        if not self.is_closed:
            self.is_closed = True
            self._write(frames.go_away(self._last_stream, code, message))

    def _flush_all(self) -> None:
        for number, stream in list(self._streams.items()):
            if stream.outbox:
                self._flush(number, stream)

    def _flush(self, number: int, stream: Stream) -> None:
        while stream.outbox and self._is_writable:
            data, is_end = stream.outbox[0]
            if is_end:
                stream.outbox.clear()
                self._write(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, data))
                if not stream.is_received:
                    # The rest of the request is of no use to anybody (RFC 9113, section 8.1).
                    self._write(frames.reset(number, Code.NO_ERROR))
                self._end(number)
                return
            size = min(len(data), self._max_frame_bytes, self._send_window, stream.send_window)
            if size <= 0:
                return
            self._send_window -= size
            stream.send_window -= size
            if size == len(data):
                stream.outbox.popleft()
            else:
                stream.outbox[0] = (data[size:], False)
            self._write(frames.frame(frames.DATA, 0, number, data[:size]))

    def _end(self, number: int) -> None:
        del self._streams[number]
        self._nuisances = max(0, self._nuisances - 1)

    # Of the class: in each connection its own methods would hang together with it in a circle.
    _CONTROL: ClassVar[dict[int, Callable[["Connection", int, int, bytes], None]]] = {
        frames.PRIORITY: _on_priority,
        frames.RST_STREAM: _on_reset,
        frames.SETTINGS: _on_settings,
        frames.PUSH_PROMISE: _on_push_promise,
        frames.PING: _on_ping,
        frames.GOAWAY: _on_go_away,
        frames.WINDOW_UPDATE: _on_window_update,
        frames.CONTINUATION: _on_continuation,
    }


def _length(block: bytes) -> bytes:
    return len(block).to_bytes(3, "big")
