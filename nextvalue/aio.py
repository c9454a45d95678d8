"""The client for programs with an event loop."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, SupportsIndex, TypeVar

import grpc
from numpy.typing import ArrayLike

from nextvalue.calls import DEFAULT_TIMEOUT_SECONDS, Call
from nextvalue.channel import DEFAULT_MAX_MESSAGE_BYTES, channel_options
from nextvalue.errors import Cancelled, NotFound
from nextvalue.health import CHECK_METHOD, HealthStatus, decode_status, encode_service
from nextvalue.joiner import BeforeRetry, Joiner
from nextvalue.messages import SLIDING, Levels, PredictExchange, model_from
from nextvalue.results import Model, Prediction
from nextvalue.retry import RetryBudget, RetryPolicy
from nextvalue.security import Tls, channel_credentials, token_metadata
from nextvalue.times import Times
from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub

Request = TypeVar("Request")
Reply = TypeVar("Reply")

DEFAULT_MAX_JOINED_WINDOWS = 512
DEFAULT_MAX_JOINED_IN_FLIGHT = 1


class AsyncClient:
    """`Client` for asyncio: the same calls, arguments, results and errors, awaited.

        async with AsyncClient("127.0.0.1:50051") as client:
            prediction = await client.predict("demo", [45, 46, 47, 48, 49], horizon=5)

    It belongs to the event loop it is made in. Cancelling the task that awaits a call cancels the call at the server
    and raises `asyncio.CancelledError`.

    Joining: calls of `predict` that are alike (model, version, horizon, window shape, intervals, rollout, and whether
    there are times, series and covariates to come) and are made while an RPC of theirs is in flight go in one message
    together when it returns, or after 50 ms or half of their time. Nothing waits while nothing is in flight. Callers do
    not notice:

    - Each has its own deadline. The message's is that of the caller with the most time.
    - One that leaves takes nothing from the others; a message that all have left is cancelled.
    - Where a joined message fails for what may be in some caller's rows (INVALID_ARGUMENT; INTERNAL and UNKNOWN, for a
      prediction may overflow; a message too large), every caller's rows are sent again alone. So each gets the answer
      or the error, field names and indices included, that it would have got alone. Other errors are about all.
    - A joined message is one attempt for retries and their budget. Whose time ends before the next attempt is told the
      error at once.
    - `queue_seconds` and `run_seconds` are those of the message. `num_unknown_series` is the caller's own.

    Args:
        target: `host:port`, `unix:path`, or `dns:///host:port` to spread calls over every address behind the name.
        tls: for a server that speaks TLS: `Tls(ca=...)`, with `certificate` and `key` where it asks, or True for
            the authorities that gRPC brings along. Without it nothing is encrypted.
        token: who we are, for a server that asks; sent with every call.
        plaintext_token: send the token even where nothing is encrypted.
        credentials: gRPC's own, in place of `tls`.
        retry: how calls are retried; the budget in it is shared by all calls of this client.
        max_message_bytes: largest message sent or received.
        max_joined_windows: most windows in a joined message; 0 switches joining off. A call of as many or more, or near
            4 MiB, is sent alone. By default what a server with default options runs at once.
        max_joined_in_flight: messages in flight before calls like them wait for company. Raise it where `target` is
            many servers and one message at a time would keep few of them busy.

    Raises:
        ValueError: an option is out of range, or a token would be sent unencrypted.
        OSError: a file of `tls` cannot be read.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: Tls | bool = False,
        token: str | None = None,
        plaintext_token: bool = False,
        credentials: grpc.ChannelCredentials | None = None,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        max_joined_windows: int = DEFAULT_MAX_JOINED_WINDOWS,
        max_joined_in_flight: int = DEFAULT_MAX_JOINED_IN_FLIGHT,
    ) -> None:
        if max_joined_windows < 0:
            raise ValueError(f"max_joined_windows is {max_joined_windows}: must be at least 0")
        if max_joined_in_flight < 1:
            raise ValueError(f"max_joined_in_flight is {max_joined_in_flight}: must be at least 1")
        credentials = channel_credentials(credentials, tls)
        self._metadata = token_metadata(
            token, target=target, encrypted=credentials is not None, plaintext_token=plaintext_token
        )
        options = channel_options(max_message_bytes=max_message_bytes)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._stub = NextValueStub(self._channel)
        self._check = self._channel.unary_unary(CHECK_METHOD, encode_service, decode_status)
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy)
        self._closed = asyncio.Event()
        self._joiner = (
            Joiner(
                partial(self._call, self._stub.Predict),
                max_windows=max_joined_windows,
                max_in_flight=max_joined_in_flight,
                max_message_bytes=max_message_bytes,
            )
            if max_joined_windows
            else None
        )

    async def predict(
        self,
        model: str,
        windows: ArrayLike,
        *,
        horizon: SupportsIndex = 1,
        version: str | int = "",
        future: ArrayLike | None = None,
        times: Times | None = None,
        series: str | int | Sequence[str | int] | None = None,
        intervals: Levels | None = None,
        rollout: str = SLIDING,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Prediction:
        """Predicts what comes after each window; see `Client.predict`.

        Returns:
            values [N, horizon] and what answered; [horizon] for one window [T].

        Raises:
            InvalidArgument: an argument is wrong, said by the client before sending or by the server.
            NextvalueError: the call failed otherwise.
        """
        exchange = PredictExchange.start(
            model,
            windows,
            horizon=horizon,
            version=version,
            future=future,
            times=times,
            series=series,
            intervals=intervals,
            rollout=rollout,
        )
        if self._joiner is not None:
            return await self._joiner.predict(exchange, timeout_seconds)
        return exchange.finish(await self._call(self._stub.Predict, exchange.request, timeout_seconds))

    async def models(self, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> tuple[Model, ...]:
        """Every model of the server's repository; see `Client.models`.

        Raises:
            NextvalueError: the call failed.
        """
        reply = await self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout_seconds)
        return tuple(model_from(model) for model in reply.models)

    async def model(self, name: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Model:
        """One model.

        Raises:
            NotFound: there is none of that name.
            NextvalueError: the call failed otherwise.
        """
        return model_from(await self._call(self._stub.GetModel, pb.GetModelRequest(model=name), timeout_seconds))

    async def health(self, service: str = "", *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> HealthStatus:
        """What the server says about a service of its own; see `Client.health`.

        Raises:
            NextvalueError: the call failed; a service that the server does not know is a status instead.
        """
        try:
            return await self._call(self._check, service, timeout_seconds)
        except NotFound:
            return HealthStatus.SERVICE_UNKNOWN

    async def close(self) -> None:
        """Drops the connections; calls on their way fail with `Cancelled`."""
        self._closed.set()
        await self._channel.close()
        if self._joiner is not None:
            await self._joiner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self,
        method: "grpc.aio.UnaryUnaryMultiCallable[Request, Reply]",
        request: Request,
        timeout_seconds: float,
        before_retry: BeforeRetry | None = None,
    ) -> Reply:
        call = Call(self._policy, self._budget, timeout_seconds=timeout_seconds)
        while not self._closed.is_set():
            try:
                reply = await method(request, timeout=call.remaining_seconds(), metadata=self._metadata)
            except grpc.RpcError as error:
                wait_seconds = call.failed(error)
                if before_retry is not None:
                    before_retry(error, wait_seconds)
            except asyncio.CancelledError:
                # Closing the channel cancels its calls, but nobody asked for the end of the task that awaits one.
                task = asyncio.current_task()
                if self._closed.is_set() and task is not None and not task.cancelling():
                    break
                raise
            else:
                call.succeeded()
                return reply
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._closed.wait()
        raise Cancelled(grpc.StatusCode.CANCELLED, "the client is closed")
