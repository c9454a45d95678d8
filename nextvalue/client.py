"""The client for programs without an event loop."""

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self, SupportsIndex, TypeVar

import grpc
from numpy.typing import ArrayLike

from nextvalue.calls import DEFAULT_TIMEOUT_SECONDS, Call
from nextvalue.channel import DEFAULT_MAX_MESSAGE_BYTES, channel_options
from nextvalue.errors import Cancelled, NotFound
from nextvalue.health import CHECK_METHOD, HealthStatus, decode_status, encode_service
from nextvalue.messages import SLIDING, Levels, PredictExchange, model_from
from nextvalue.results import Model, Prediction
from nextvalue.retry import RetryBudget, RetryPolicy
from nextvalue.security import Tls, channel_credentials, token_metadata
from nextvalue.times import Times
from nextvalue.v1 import nextvalue_pb2 as pb
from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Client:
    """Calls a Nextvalue server. One client may be shared by threads, and should be: it holds the connections.

        with Client("127.0.0.1:50051") as client:
            prediction = client.predict("demo", [45, 46, 47, 48, 49], horizon=5)

    Every call has a deadline, which covers its retries, and raises a `NextvalueError`.

    Args:
        target: `host:port`, `unix:path`, or `dns:///host:port` to spread calls over every address behind the name.
        tls: for a server that speaks TLS: `Tls(ca=...)`, with `certificate` and `key` where it asks, or True for
            the authorities that gRPC brings along. Without it nothing is encrypted.
        token: who we are, for a server that asks; sent with every call.
        plaintext_token: send the token even where nothing is encrypted.
        credentials: gRPC's own, in place of `tls`.
        retry: how calls are retried; the budget in it is shared by all calls of this client.
        max_message_bytes: largest message sent or received.

    Raises:
        ValueError: options do not go together, or a token would be sent unencrypted.
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
    ) -> None:
        credentials = channel_credentials(credentials, tls)
        self._metadata = token_metadata(
            token, target=target, encrypted=credentials is not None, plaintext_token=plaintext_token
        )
        options = channel_options(max_message_bytes=max_message_bytes)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._stub = NextValueStub(self._channel)
        self._check = self._channel.unary_unary(CHECK_METHOD, encode_service, decode_status)
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy)
        self._closed = threading.Event()

    def predict(
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
        """Predicts what comes after each window.

        Args:
            model: name of the model.
            windows: [N, T, F], or [N, T] when the model has one feature, in the units of the series, oldest first;
                feature 0 is the target. One window [T] is also taken and gives values of shape [horizon].
            horizon: how many values ahead.
            version: number or label; empty: the server's choice.
            future: covariates [N, horizon - 1, F - 1] of the steps being predicted, for models of several features and
                a horizon beyond the model's direct one.
            times: when each value was, [N, T], or [T] for all windows, for models with a calendar: seconds since 1970
                (int64, UTC), numpy's datetime64 (UTC) or datetime (UTC where it has no time zone). They must grow
                within each window.
            series: the id of each window's series, or one for all windows, for models that are scaled by series.
            intervals: True for the intervals of all the model's levels, or the levels wanted, such as 0.9 or
                [0.5, 0.9]. They end at the model's direct horizon.
            rollout: what follows a predicted value: "sliding", where each is predicted from the last T values, or
                "carry", where the cell's state goes on, up to the model's `carry_horizon`.
            timeout_seconds: how long to wait for the answer, retries included.

        Returns:
            values [N, horizon] and what answered, with the ends of intervals where they were asked for.

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
        return exchange.finish(self._call(self._stub.Predict, exchange.request, timeout_seconds))

    def models(self, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> tuple[Model, ...]:
        """Every model of the server's repository, with every version and why one is not served.

        Raises:
            NextvalueError: the call failed.
        """
        reply = self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout_seconds)
        return tuple(model_from(model) for model in reply.models)

    def model(self, name: str, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Model:
        """One model.

        Raises:
            NotFound: there is none of that name.
            NextvalueError: the call failed otherwise.
        """
        return model_from(self._call(self._stub.GetModel, pb.GetModelRequest(model=name), timeout_seconds))

    def health(self, service: str = "", *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> HealthStatus:
        """What the server says about a service of its own: `""`, `readiness` or `liveness`.

        Raises:
            NextvalueError: the call failed; a service that the server does not know is a status instead.
        """
        try:
            return self._call(self._check, service, timeout_seconds)
        except NotFound:
            return HealthStatus.SERVICE_UNKNOWN

    def close(self) -> None:
        """Drops the connections; calls on their way fail with `Cancelled`."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request, timeout_seconds: float
    ) -> Reply:
        call = Call(self._policy, self._budget, timeout_seconds=timeout_seconds)
        wait_seconds = 0.0
        while not self._closed.wait(wait_seconds):
            try:
                reply = method(request, timeout=call.remaining_seconds(), metadata=self._metadata)
            except grpc.RpcError as error:
                wait_seconds = call.failed(error)
            else:
                call.succeeded()
                return reply
        raise Cancelled(grpc.StatusCode.CANCELLED, "the client is closed")
