"""Bytes that are no message of their call's type: INVALID_ARGUMENT, where grpc.aio has UNKNOWN and a traceback."""

from collections.abc import Mapping
from typing import Any

import grpc

from server.transport.calls import Calls, Context, begins_at_once
from server.transport.guard import Guard
from server.transport.unanswerable import Unreadable, reader

# grpc.RpcMethodHandler, whose published types are those of the synchronous server.
Handler = Any
Handlers = Mapping[str, Handler]


class ReadableOnly:
    """A server as generated code sees it: services added here have their unreadable requests answered by `calls`."""

    def __init__(self, server: grpc.aio.Server | Guard, calls: Calls) -> None:
        self._server = server
        self._calls = calls

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Passed over: the same methods come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Handlers) -> None:
        """Add a service's methods."""
        checked = {name: self._checked(name, handler) for name, handler in handlers.items()}
        if isinstance(self._server, Guard):
            self._server.add_registered_method_handlers(service, checked)
        else:
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, checked),))

    def _checked(self, rpc: str, handler: Handler) -> Handler:
        parse, serialize = reader(handler.request_deserializer), handler.response_serializer
        if handler.request_streaming:
            # A stream goes on behind a request that it cannot read, so it answers for each itself.
            return grpc.stream_stream_rpc_method_handler(handler.stream_stream, parse, serialize)
        answer = handler.unary_unary

        async def readable(request: Any, context: Context) -> Any:
            if isinstance(request, Unreadable):
                return await self._calls.answer(rpc, context, self._calls.labels(""), request.refuse())
            return await answer(request, context)

        if getattr(answer, "begins_at_once", False):
            begins_at_once(readable)
        return grpc.unary_unary_rpc_method_handler(readable, parse, serialize)
