"""When to try again, and after how long: gRPC's retry design (proposal A6), for our statuses.

Plain objects: the time and the random number come in as arguments, and the caller does the waiting.

- UNAVAILABLE is retried after a random time below an exponentially growing limit.
- RESOURCE_EXHAUSTED is retried only if the server said when to come back.
- The server's word (`grpc-retry-pushback-ms`) replaces the backoff exactly; "never" and gibberish end the call.
- A budget that all calls of a client share stops retries while most calls fail, so that they never multiply an outage.
- No wait reaches past the call's deadline.
"""

from dataclasses import dataclass
from threading import Lock

import grpc

PUSHBACK_KEY = "grpc-retry-pushback-ms"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How a client retries. `max_attempts=1` means never.

    The wait before retry k (from 1) is uniform in [0, min(max_backoff, initial_backoff * multiplier**(k-1))].
    The budget starts at `budget_tokens`; a failed attempt costs 1, a success gives back `budget_token_ratio`, and with
    half of the tokens or fewer nothing is retried.
    """

    max_attempts: int = 5
    initial_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 2.0
    backoff_multiplier: float = 2.0
    budget_tokens: float = 10.0
    budget_token_ratio: float = 0.1

    def __post_init__(self) -> None:
        for name, lowest in (
            ("max_attempts", 1),
            ("initial_backoff_seconds", 0.0),
            ("max_backoff_seconds", 0.0),
            ("backoff_multiplier", 1.0),
            ("budget_tokens", 0.0),
            ("budget_token_ratio", 0.0),
        ):
            value = getattr(self, name)
            if not value >= lowest:
                raise ValueError(f"{name} is {value}: must be at least {lowest}")

    def backoff_limit_seconds(self, retry: int) -> float:
        """Longest wait before the given retry, counted from 1."""
        return min(self.max_backoff_seconds, self.initial_backoff_seconds * self.backoff_multiplier ** (retry - 1))


class RetryBudget:
    """The token bucket of one client, shared by its calls and their threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._max_tokens = policy.budget_tokens
        self._token_ratio = policy.budget_token_ratio
        self._tokens = policy.budget_tokens
        self._lock = Lock()

    def allows_retry(self) -> bool:
        """Whether enough calls succeed for retries to make sense."""
        return self._tokens > self._max_tokens / 2

    def record_success(self) -> None:
        """A call was answered: give a little back."""
        with self._lock:
            self._tokens = min(self._max_tokens, self._tokens + self._token_ratio)

    def record_failure(self) -> None:
        """An attempt failed in a way that loads the server, or shows that it is in trouble."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)


class CallRetries:
    """The retries of one call.

    Args:
        policy: how to retry.
        budget: what the client can still spend.
        deadline: when the caller stops waiting, in seconds on the clock that `now` is read from.
    """

    def __init__(self, policy: RetryPolicy, budget: RetryBudget, *, deadline: float) -> None:
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self._num_attempts = 0
        self._num_backoffs = 0

    def succeeded(self) -> None:
        """The call was answered."""
        self._budget.record_success()

    def seconds_before_retry(
        self, code: grpc.StatusCode, pushback: str | None, *, now: float, fraction: float
    ) -> float | None:
        """What to do after a failed attempt.

        Args:
            code: the attempt's status.
            pushback: the value of the trailer `grpc-retry-pushback-ms`, None if there is none.
            now: the time, in seconds on the deadline's clock.
            fraction: a random number in [0, 1): which part of the longest backoff to wait.

        Returns:
            Seconds to wait before the next attempt; None: there is none.
        """
        self._num_attempts += 1
        pushback_seconds = None if pushback is None else parse_pushback_seconds(pushback)
        retryable = code is grpc.StatusCode.UNAVAILABLE or (
            code is grpc.StatusCode.RESOURCE_EXHAUSTED and pushback_seconds is not None
        )
        if retryable or pushback is not None:
            self._budget.record_failure()
        refused = pushback is not None and pushback_seconds is None
        if not retryable or refused or self._num_attempts >= self._policy.max_attempts:
            return None
        if not self._budget.allows_retry():
            return None
        if pushback_seconds is None:
            self._num_backoffs += 1
            wait_seconds = fraction * self._policy.backoff_limit_seconds(self._num_backoffs)
        else:
            self._num_backoffs = 0  # the server knows better than the backoff, which starts afresh
            wait_seconds = pushback_seconds
        return wait_seconds if now + wait_seconds < self._deadline else None


def parse_pushback_seconds(value: str) -> float | None:
    """Milliseconds as the trailer states them, in seconds; None where it is negative or not an integer."""
    return int(value) / 1000 if value.isascii() and value.isdigit() else None
