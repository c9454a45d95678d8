import time

import grpc
import pytest

from nextvalue import DeadlineExceeded, InvalidArgument, RetryPolicy, Unavailable
from nextvalue.calls import Call, pushback_of
from nextvalue.retry import RetryBudget

POLICY = RetryPolicy(initial_backoff_seconds=0.0)


class _Failure(grpc.RpcError):
    """As the sync API raises it."""

    def __init__(self, code: grpc.StatusCode, trailers: tuple[tuple[str, str | bytes], ...] | None = ()) -> None:
        self._code, self._trailers = code, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "why"

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:  # type: ignore[override]
        return self._trailers


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_all_attempts_share_one_deadline(clock: _Clock) -> None:
    call = Call(POLICY, RetryBudget(POLICY), timeout_seconds=5.0)
    assert call.remaining_seconds() == 5.0
    clock.now += 3.0
    assert call.failed(_Failure(grpc.StatusCode.UNAVAILABLE)) == 0.0
    assert call.remaining_seconds() == 2.0
    clock.now += 2.0
    with pytest.raises(Unavailable, match="why"):
        call.failed(_Failure(grpc.StatusCode.UNAVAILABLE))


def test_a_passed_deadline_is_raised_as_one() -> None:
    call = Call(POLICY, RetryBudget(POLICY), timeout_seconds=5.0)
    error = _Failure(grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(DeadlineExceeded) as caught:
        call.failed(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_call_without_a_deadline_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidArgument, match=f"timeout_seconds is {seconds}"):
        Call(POLICY, RetryBudget(POLICY), timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("trailers", "pushback"),
    [
        (None, None),
        ((), None),
        ((("other", "1"), ("grpc-retry-pushback-ms", "25")), "25"),
        ((("grpc-retry-pushback-ms", b"25"),), "25"),
    ],
)
def test_the_pushback_is_found_among_the_trailers(
    trailers: tuple[tuple[str, str | bytes], ...] | None, pushback: str | None
) -> None:
    assert pushback_of(_Failure(grpc.StatusCode.UNAVAILABLE, trailers)) == pushback
