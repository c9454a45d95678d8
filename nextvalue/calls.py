"""One call on its way through retries and deadline: what both clients do around the wire, without the waiting.

    call = Call(policy, budget, timeout_seconds=5.0)
    while True:
        try:
            reply = send(request, timeout=call.remaining_seconds())
        except grpc.RpcError as error:
            wait_seconds = call.failed(error)    # raises our error when it is not to be retried
        else:
            call.succeeded()
            return reply
        wait(wait_seconds)

The two loops that do this differ in how they wait and in nothing else.
"""

import math
import random
import time
from collections.abc import Iterable
from typing import cast

import grpc

from nextvalue.errors import from_rpc_error, invalid
from nextvalue.retry import PUSHBACK_KEY, CallRetries, RetryBudget, RetryPolicy

DEFAULT_TIMEOUT_SECONDS = 5.0


class Call:
    """A deadline and the retries within it.

    Raises:
        InvalidArgument: `timeout_seconds` is not a positive, finite number.
    """

    def __init__(self, policy: RetryPolicy, budget: RetryBudget, *, timeout_seconds: float) -> None:
        check_timeout(timeout_seconds)
        self._deadline = time.monotonic() + timeout_seconds
        self._retries = CallRetries(policy, budget, deadline=self._deadline)

    def remaining_seconds(self) -> float:
        """Time left for the next attempt; at or below zero, gRPC fails the attempt with DEADLINE_EXCEEDED."""
        return self._deadline - time.monotonic()

    def succeeded(self) -> None:
        """The call was answered."""
        self._retries.succeeded()

    def failed(self, error: grpc.RpcError) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            NextvalueError: there is none; `error` in our terms.
        """
        wait_seconds = self._retries.seconds_before_retry(
            error.code(),
            pushback_of(error),
            now=time.monotonic(),
            fraction=random.random(),  # noqa: S311 -- spreads retries, guards nothing
        )
        if wait_seconds is None:
            raise from_rpc_error(error) from error
        return wait_seconds


def check_timeout(timeout_seconds: float) -> None:
    """Refuses what is no time to wait for.

    Raises:
        InvalidArgument: `timeout_seconds` is not a positive, finite number.
    """
    if not (0 < timeout_seconds < math.inf):
        raise invalid(f"timeout_seconds is {timeout_seconds}: must be positive and finite")


def pushback_of(error: grpc.RpcError) -> str | None:
    """The trailer that says when to come back, as it was sent; None if it was not."""
    # Both APIs yield (key, value) pairs; their types say otherwise.
    trailers = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailers:
        if key == PUSHBACK_KEY:
            return value.decode(errors="replace") if isinstance(value, bytes) else value
    return None
