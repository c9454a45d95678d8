"""From a request to its handler and back: one object for each call on a connection."""

import asyncio
import logging
from collections import deque
from typing import Any, NamedTuple, Protocol

import grpc

from server.http2.connection import Connection
from server.http2.context import Aborted, Context
from server.http2.direct import Direct
from server.http2.frames import Code
from server.http2.headers import Headers
from server.http2.messages import (
    RESPONSE,
    MessageReader,
    Refused,
    check_encoding,
    metadata_of,
    packed,
    timeout_seconds,
    trailers,
    trailers_only,
)

logger = logging.getLogger("nextvalue.http2")

# grpc.RpcMethodHandler, whose published types are those of the synchronous server.
Handler = Any

# Requests of a stream that may wait for their handler; beyond, the peer's window is not refilled.
MOST_WAITING = 16


class Owner(Protocol):
    """The connection's end of a call."""

    connection: Connection
    peer: str
    names: tuple[str, ...]

    def ended(self, stream: int) -> None:
        """The call on this stream is over."""
        ...

    async def room(self, stream: int) -> None:
        """Wait until what the stream was given to send has gone out."""
        ...


class Head(NamedTuple):
    """What a call's headers say: who answers, how messages are compressed, seconds it may take, the caller's own."""

    handler: Handler
    encoding: str
    seconds: float | None
    metadata: tuple[tuple[str, str | bytes], ...]


def head_of(headers: Headers, handler: Handler) -> Head:
    """Raises Refused where the headers make the call impossible."""
    named = dict(headers)
    encoding = named.get("grpc-encoding", "identity")
    check_encoding(encoding)
    seconds = timeout_seconds(named["grpc-timeout"]) if "grpc-timeout" in named else None
    return Head(handler, encoding, seconds, metadata_of(headers))


class ServerCall:
    """One call: collects its messages, runs its handler, ends with a status exactly once."""

    def __init__(
        self, owner: Owner, stream: int, head: Head, loop: asyncio.AbstractEventLoop, *, max_message_bytes: int
    ) -> None:
        self._owner = owner
        self._connection = owner.connection
        self._stream = stream
        self._handler = handler = head.handler
        self.is_unary = not (handler.request_streaming or handler.response_streaming)
        self._loop = loop
        self._reader = MessageReader(head.encoding, max_bytes=max_message_bytes)
        deadline = None
        self._timer: asyncio.TimerHandle | None = None
        if head.seconds is not None:
            deadline = loop.time() + head.seconds
            self._timer = loop.call_later(head.seconds, self._expire)
        self.context = Context(self, loop, metadata=head.metadata, deadline=deadline, peer=owner.peer)
        self._task: asyncio.Task[None] | Direct | None = None
        self._is_over = self._has_headers = False
        self._requests: Requests | None = None
        self._message: bytes | None = None
        # Bytes that the peer has not been given back.
        self._withheld = 0
        if handler.request_streaming:
            self._requests = Requests(self, handler.request_deserializer)
            self._task = loop.create_task(self._run(self._requests))

    @property
    def takes_many(self) -> bool:
        """Whether its request is a stream of messages."""
        return self._requests is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Those in the certificate of the caller."""
        return self._owner.names

    # ---- in ----

    def receive(self, data: bytes, *, ends: bool) -> bool:
        """Some of the request; whether as much may follow at once."""
        if self._is_over:
            return True
        if ends and self._requests is None and self._message is None and (message := self._reader.whole(data)):
            # By far the most: a request that comes in one piece.
            self._begin(message)
            return True
        try:
            for message in self._reader.take(data) if data else ():
                self._take(message)
            if ends:
                self._end_request()
        except Refused as refused:
            self._end(refused.code, refused.details)
            self._stop()
            return True
        if self._requests is None or len(self._requests) < MOST_WAITING:
            return True
        self._withheld += len(data)
        return False

    def _take(self, message: bytes) -> None:
        if self._requests is not None:
            self._requests.put(message)
        elif self._message is not None:
            raise Refused(grpc.StatusCode.INTERNAL, "more than one message for a call that takes one")
        else:
            self._message = message

    def _end_request(self) -> None:
        if self._reader.is_partial:
            raise Refused(grpc.StatusCode.INTERNAL, "the request ended within a message")
        if self._requests is not None:
            self._requests.end()
            return
        if self._message is None:
            raise Refused(grpc.StatusCode.INTERNAL, "the request ended without a message")
        message, self._message = self._message, None
        self._begin(message)

    def _begin(self, message: bytes) -> None:
        """Run the handler of a call with one request."""
        try:
            request = self._handler.request_deserializer(message)
        except Exception:
            logger.exception("a request could not be read")
            self._end(grpc.StatusCode.INTERNAL, "the message could not be read")
            return
        if getattr(self._handler.unary_unary, "begins_at_once", False):
            self._task = Direct(self._run(request))
        else:
            self._task = self._loop.create_task(self._run(request))

    def consumed(self) -> None:
        """There is room for another message of a stream."""
        withheld, self._withheld = self._withheld, 0
        if withheld:
            self._connection.credit(self._stream, withheld)

    # ---- the handler ----

    async def _run(self, request: Any) -> None:
        handler, context = self._handler, self.context
        try:
            if handler.response_streaming:
                await self._stream_responses(request)
                self._end(context.status, context.status_details)
            else:
                method = handler.stream_unary if handler.request_streaming else handler.unary_unary
                response = await method(request, context)
                self._answer(handler.response_serializer(response))
        except Aborted:
            self._end(context.status, context.status_details)
        except asyncio.CancelledError:
            # By the deadline or the peer, who have ended the call already; or by the server's own end.
            self._end(grpc.StatusCode.CANCELLED, "the server is shutting down")
        except Exception as error:
            logger.exception("a handler failed")
            self._end(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error).__name__}")

    async def _stream_responses(self, request: Any) -> None:
        handler = self._handler
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        responses = method(request, self.context)
        if hasattr(responses, "__aiter__"):
            async for response in responses:
                await self.write(response)
        else:
            await responses

    # ---- out ----

    async def write(self, response: Any) -> None:
        """Send a message, and wait until there is room for the next."""
        if self._is_over:
            return
        self._send_headers()
        self._connection.send_data(self._stream, packed(self._handler.response_serializer(response)))
        if self._connection.waits(self._stream):
            await self._owner.room(self._stream)

    def _send_headers(self) -> None:
        if not self._has_headers:
            self._has_headers = True
            self._connection.send_headers(self._stream, RESPONSE)

    def _answer(self, message: bytes) -> None:
        context = self.context
        if context.status is not grpc.StatusCode.OK or self._is_over:
            self._end(context.status, context.status_details)
            return
        tail = trailers(context.status, context.status_details, context.trailing)
        self._close()
        self._connection.respond(self._stream, RESPONSE, packed(message), tail)

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        """End with a status, if the call has not ended yet."""
        if self._is_over:
            return
        block = trailers if self._has_headers else trailers_only
        self._close()
        self._connection.finish(self._stream, block(code, details, self.context.trailing))

    def _expire(self) -> None:
        self._end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        self._stop()

    def left(self) -> None:
        """The peer is gone, or gave the call up."""
        self._close()
        self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        """The server ends before the handler has."""
        self._end(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        self._stop()
        self._connection.reset(self._stream, Code.CANCEL)

    def _close(self) -> None:
        if not self._is_over:
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()
            self._owner.ended(self._stream)
            self.context.ended()


class Requests:
    """The messages of a stream as its handler reads them."""

    def __init__(self, call: ServerCall, deserialize: Any) -> None:
        self._call = call
        self._deserialize = deserialize
        self._waiting: deque[bytes] = deque()
        self._has_ended = False
        self._arrival: asyncio.Future[None] | None = None

    def put(self, message: bytes) -> None:
        """One more."""
        self._waiting.append(message)
        self._wake()

    def end(self) -> None:
        """There are no more."""
        self._has_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        message = self._waiting.popleft()
        if len(self._waiting) < MOST_WAITING:
            self._call.consumed()
        return self._deserialize(message)

    def __len__(self) -> int:
        return len(self._waiting)
