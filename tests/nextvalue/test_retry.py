from typing import Any

import grpc
import pytest

from nextvalue.retry import CallRetries, RetryBudget, RetryPolicy, parse_pushback_seconds

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED

POLICY = RetryPolicy(
    max_attempts=5, initial_backoff_seconds=1.0, max_backoff_seconds=3.0, backoff_multiplier=2.0, budget_tokens=100.0
)


def retries(policy: RetryPolicy = POLICY, budget: RetryBudget | None = None, deadline: float = 1000.0) -> CallRetries:
    return CallRetries(policy, budget or RetryBudget(policy), deadline=deadline)


def failed(
    call: CallRetries,
    code: grpc.StatusCode = UNAVAILABLE,
    pushback: str | None = None,
    *,
    now: float = 0.0,
    fraction: float = 1.0,
) -> float | None:
    return call.seconds_before_retry(code, pushback, now=now, fraction=fraction)


def test_backoff_doubles_up_to_its_limit_and_ends_with_the_last_attempt() -> None:
    call = retries()
    assert [failed(call) for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, None]


def test_backoff_is_spread_over_the_whole_range() -> None:
    assert failed(retries(), fraction=0.0) == 0.0
    assert failed(retries(), fraction=0.25) == 0.25


def test_overload_without_pushback_is_not_retried() -> None:
    assert failed(retries(), EXHAUSTED) is None


@pytest.mark.parametrize("code", [UNAVAILABLE, EXHAUSTED])
def test_pushback_is_waited_exactly(code: grpc.StatusCode) -> None:
    assert failed(retries(), code, "1250", fraction=0.5) == 1.25
    assert failed(retries(), code, "0") == 0.0


@pytest.mark.parametrize("code", [UNAVAILABLE, EXHAUSTED])
@pytest.mark.parametrize("pushback", ["-1", "", "soon", "1.5", "+5", "1_000", "٣"])
def test_a_negative_or_unparsable_pushback_ends_the_call(code: grpc.StatusCode, pushback: str) -> None:
    assert parse_pushback_seconds(pushback) is None
    assert failed(retries(), code, pushback) is None


def test_backoff_starts_afresh_after_a_pushback() -> None:
    call = retries()
    assert [failed(call), failed(call), failed(call, EXHAUSTED, "500"), failed(call)] == [1.0, 2.0, 0.5, 1.0]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in {UNAVAILABLE, EXHAUSTED}])
def test_other_statuses_are_final_whatever_the_trailer_says(code: grpc.StatusCode) -> None:
    assert failed(retries(), code) is None
    assert failed(retries(), code, "10") is None


def test_no_wait_reaches_the_deadline() -> None:
    assert failed(retries(deadline=10.0), now=8.5) == 1.0
    assert failed(retries(deadline=10.0), now=9.0) is None
    assert failed(retries(deadline=10.0), EXHAUSTED, "1000", now=9.0) is None
    assert failed(retries(deadline=10.0), EXHAUSTED, "999", now=9.0) == 0.999


def test_the_budget_stops_retries_at_half_and_successes_earn_them_back() -> None:
    policy = RetryPolicy(budget_tokens=4.0, budget_token_ratio=0.5)
    budget = RetryBudget(policy)
    assert failed(retries(policy, budget)) is not None  # 3 left
    assert failed(retries(policy, budget)) is None  # 2 left: half
    retries(policy, budget).succeeded()
    assert budget.allows_retry()
    assert failed(retries(policy, budget)) is None


def test_the_budget_is_never_more_than_full_nor_less_than_empty() -> None:
    policy = RetryPolicy(budget_tokens=2.0, budget_token_ratio=1.0)
    budget = RetryBudget(policy)
    budget.record_success()
    budget.record_failure()
    assert not budget.allows_retry()
    for _ in range(10):
        budget.record_failure()
    budget.record_success()
    budget.record_success()
    assert budget.allows_retry()


def test_failures_that_say_nothing_of_the_servers_load_cost_nothing() -> None:
    policy = RetryPolicy(budget_tokens=2.0)
    budget = RetryBudget(policy)
    for _ in range(5):
        failed(retries(policy, budget), grpc.StatusCode.INVALID_ARGUMENT)
    assert budget.allows_retry()
    failed(retries(policy, budget), EXHAUSTED, "-1")
    assert not budget.allows_retry()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial_backoff_seconds": -1.0},
        {"backoff_multiplier": 0.5},
        {"budget_tokens": float("nan")},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*: must be at least"):
        RetryPolicy(**wrong)
