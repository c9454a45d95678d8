"""Locks on the doors: who calls, and whether he may, before a handler sees the call.

Only a server with an access file has this; without one the handlers are served as they are.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from time import time
from typing import Any

import grpc

from server.doors.access import Access, Grant
from server.doors.certificates import COMMON_NAME, NAMES
from server.errors import NotAllowed, RequestError, Unauthenticated
from server.transport.calls import Calls, Context, Labels, begins_at_once
from server.transport.rules import Rule, rule_of
from server.transport.unanswerable import Unanswerable, reader

# grpc.RpcMethodHandler, whose published types are those of the synchronous server.
Handler = Any
Metadata = tuple[tuple[str, str | bytes], ...]

AUTHORIZATION, SCHEME = "authorization", "bearer"


class Door:
    """Finds out who calls. Time comes from `clock`, seconds since 1970."""

    def __init__(self, access: Callable[[], Access], clock: Callable[[], float] = time) -> None:
        """`access` gives the file that is in force now."""
        self._access = access
        self._clock = clock

    def grant(self, metadata: Metadata, names: tuple[str, ...]) -> Grant:
        """What the caller may do. Raises Unauthenticated. A token counts before the names in a certificate."""
        token = token_of(metadata)
        if token is not None:
            return self._access().by_token(token, now=self._clock())
        if names:
            return self._access().by_certificate(names)
        raise Unauthenticated("no token: the call's metadata must have 'authorization: Bearer TOKEN'")

    def admits(self, metadata: Metadata, names: tuple[str, ...]) -> Grant | None:
        """What the caller may do; None for a stranger."""
        try:
            return self.grant(metadata, names)
        except Unauthenticated:
            return None

    def of(self, context: Context) -> Grant:
        """What the caller of a call may do. Raises Unauthenticated."""
        metadata: Any = context.invocation_metadata() or ()
        found: Mapping[str, Any] = context.auth_context() or {}
        names = found.get(NAMES) or found.get(COMMON_NAME) or ()
        return self.grant(metadata, tuple(name.decode("utf-8", "replace") for name in names))


def token_of(metadata: Metadata) -> str | None:
    """The token in a call's metadata; None if there is none. Raises Unauthenticated, and repeats nothing of it."""
    found = [value for key, value in metadata if key == AUTHORIZATION]
    if not found:
        return None
    if len(found) > 1 or isinstance(found[0], bytes):
        raise Unauthenticated("authorization is given more than once, or in bytes")
    scheme, _, token = found[0].partition(" ")
    if scheme.lower() != SCHEME or not token.strip():
        raise Unauthenticated("authorization is not 'Bearer TOKEN'")
    return token.strip()


class Guard:
    """A server as generated code sees it: every method added here is answered for callers who may, and for no other."""

    def __init__(self, server: grpc.aio.Server, door: Door, calls: Calls) -> None:
        self._server = server
        self._door = door
        self._calls = calls

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Passed over: the same methods come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Add a service's methods."""
        guarded = {name: self._guarded(name, rule_of(service, name), each) for name, each in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))

    def _guarded(self, rpc: str, rule: Rule, handler: Handler) -> Handler:
        # A stranger is not told that nobody could read what he sent.
        coding = reader(handler.request_deserializer), handler.response_serializer
        if handler.request_streaming:
            assert handler.response_streaming, "This is a bug. There is no such call."
            return grpc.stream_stream_rpc_method_handler(self._stream(rpc, rule, handler.stream_stream), *coding)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(rpc, rule, handler.unary_stream), *coding)
        return grpc.unary_unary_rpc_method_handler(self._unary(rpc, rule, handler.unary_unary), *coding)

    def _unary(self, rpc: str, rule: Rule, answer: Any) -> Any:
        async def guarded(request: Any, context: Context) -> Any:
            try:
                # Whatever the headers were let in with: their message may have come much later.
                grant = self._door.of(context)
                if isinstance(request, Unanswerable):
                    raise request.error
                rule.check(rpc, grant, request)
            except RequestError as error:
                return await self._refuse(rpc, rule, context, request, error)
            response = await answer(request, context)
            rule.hide(grant, response)
            return response

        return begins_at_once(guarded) if getattr(answer, "begins_at_once", False) else guarded

    def _stream(self, rpc: str, rule: Rule, answer: Any) -> Any:
        async def guarded(request: Any, context: Context) -> None:
            asked = None if hasattr(request, "__aiter__") else request
            try:
                grant = self._door.of(context)
                if asked is None:
                    request = self._checked(rpc, rule, request, context)
                elif isinstance(request, Unanswerable):
                    raise request.error
                else:
                    rule.check(rpc, grant, request)
                responses = answer(request, context)
                if hasattr(responses, "__aiter__"):
                    async for response in responses:
                        await context.write(response)
                else:
                    await responses
            except RequestError as error:
                await self._refuse(rpc, rule, context, asked, error)

        return guarded

    async def _checked(
        self, rpc: str, rule: Rule, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """The requests of a stream; who calls is asked for each: a token may expire meanwhile, or be taken back."""
        async for request in requests:
            grant = self._door.of(context)
            if isinstance(request, Unanswerable):
                if not rule.model:  # only streams about models answer for each request
                    raise request.error
                yield request
                continue
            try:
                rule.check(rpc, grant, request)
            except NotAllowed as error:
                # A request for what he may not ask says nothing against the others.
                yield Unanswerable(error, request_id=getattr(request, "id", ""))
            else:
                yield request

    async def _refuse(self, rpc: str, rule: Rule, context: Context, request: Any, error: RequestError) -> Any:
        """End the call, and count it: what a stranger asks for is nobody's business."""
        known = isinstance(error, NotAllowed) and request is not None
        labels = self._calls.labels(rule.model_of(request)) if known else Labels()
        return await self._calls.answer(rpc, context, labels, _raised(error))


async def _raised(error: RequestError) -> Any:
    raise error
