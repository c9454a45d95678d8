"""How long to wait for the next process, and when to wait no more."""

import pytest

from server.supervisor.restarts import (
    HEALTHY_SECONDS,
    INITIAL_SECONDS,
    MAX_FAILED_STARTS,
    MAX_SECONDS,
    Restarts,
)


@pytest.mark.parametrize("ready_seconds", [None, 0.0, HEALTHY_SECONDS / 2])
def test_the_waits_double_up_to_a_limit(ready_seconds: float | None) -> None:
    restarts = Restarts()
    waits = [restarts.died(ready_seconds) for _ in range(2000)]
    assert waits[:5] == [INITIAL_SECONDS * factor for factor in (1, 2, 4, 8, 16)]
    assert waits == sorted(waits)
    assert waits[-1] == MAX_SECONDS


def test_one_that_was_healthy_begins_anew() -> None:
    restarts = Restarts()
    for _ in range(4):
        restarts.died(None)
    assert restarts.died(HEALTHY_SECONDS) == INITIAL_SECONDS
    assert restarts.died(None) == 2 * INITIAL_SECONDS


def test_it_is_hopeless_after_so_many_that_were_never_ready() -> None:
    restarts = Restarts()
    for _ in range(MAX_FAILED_STARTS - 1):
        restarts.died(None)
        assert not restarts.hopeless
    restarts.died(0.001)
    for _ in range(MAX_FAILED_STARTS - 1):
        restarts.died(None)
        assert not restarts.hopeless, "one was ready meanwhile"
    restarts.died(None)
    assert restarts.hopeless
