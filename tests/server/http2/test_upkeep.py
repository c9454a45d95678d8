"""When a connection ends by itself, without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http2.limits import Lifetime
from server.http2.upkeep import JITTER_SHARE, Step, Upkeep, period_seconds

LIFETIME = Lifetime(max_age_seconds=100, grace_seconds=30, keepalive_seconds=0)


def test_an_old_one_is_warned_then_told_then_ended_when_its_calls_are() -> None:
    upkeep = Upkeep(LIFETIME, now=0, fraction=0.5)
    assert upkeep.step(now=99, num_calls=2) is Step.NOTHING
    assert upkeep.step(now=100, num_calls=2) is Step.WARN
    assert upkeep.step(now=101, num_calls=2) is Step.NOTHING, "calls may be on their way until it has read"
    upkeep.heard(Step.WARN)
    assert upkeep.step(now=102, num_calls=3) is Step.GO_AWAY
    assert upkeep.step(now=103, num_calls=1) is Step.NOTHING
    assert upkeep.step(now=104, num_calls=0) is Step.CUT


def test_a_call_that_does_not_end_is_cut_after_the_grace() -> None:
    upkeep = Upkeep(LIFETIME, now=0, fraction=0.5)
    upkeep.step(now=100, num_calls=1)
    upkeep.heard(Step.WARN)
    upkeep.step(now=101, num_calls=1)
    assert upkeep.step(now=129, num_calls=1) is Step.NOTHING
    assert upkeep.step(now=130, num_calls=1) is Step.CUT


@given(st.floats(0, 1, exclude_max=True))
def test_ends_are_spread(fraction: float) -> None:
    upkeep = Upkeep(LIFETIME, now=0, fraction=fraction)
    assert upkeep.step(now=100 * (1 - JITTER_SHARE) - 0.001, num_calls=0) is Step.NOTHING
    assert upkeep.step(now=100 * (1 + JITTER_SHARE), num_calls=0) is Step.WARN


def test_a_peer_that_answers_pings_stays_and_one_that_does_not_is_dropped() -> None:
    lifetime = Lifetime(keepalive_seconds=60, keepalive_timeout_seconds=20)
    upkeep = Upkeep(lifetime, now=0, fraction=0)
    assert upkeep.step(now=59, num_calls=1) is Step.NOTHING
    assert upkeep.step(now=60, num_calls=1) is Step.PING
    upkeep.heard(Step.PING)
    assert upkeep.step(now=119, num_calls=1) is Step.NOTHING
    assert upkeep.step(now=120, num_calls=1) is Step.PING
    assert upkeep.step(now=139, num_calls=1) is Step.NOTHING
    assert upkeep.step(now=140, num_calls=1) is Step.DROP


def test_the_answer_to_an_earlier_ping_is_not_the_one_to_the_warning() -> None:
    upkeep = Upkeep(
        Lifetime(max_age_seconds=100, keepalive_seconds=99, keepalive_timeout_seconds=20), now=0, fraction=0.5
    )
    assert upkeep.step(now=99, num_calls=0) is Step.PING
    assert upkeep.step(now=100, num_calls=0) is Step.WARN
    upkeep.heard(Step.PING)
    assert upkeep.step(now=101, num_calls=0) is Step.NOTHING
    assert upkeep.step(now=120, num_calls=0) is Step.DROP


def test_a_peer_cannot_end_itself_by_an_answer_to_nothing() -> None:
    upkeep = Upkeep(LIFETIME, now=0, fraction=0.5)
    upkeep.heard(Step.WARN)
    assert upkeep.step(now=1, num_calls=0) is Step.NOTHING
    assert upkeep.step(now=100, num_calls=0) is Step.WARN
    assert upkeep.step(now=101, num_calls=0) is Step.NOTHING


@pytest.mark.parametrize(("age", "keepalive"), [(0, 0), (1, 0), (0, 60), (3600, 60), (0.1, 0)])
def test_how_often_it_is_asked(age: float, keepalive: float) -> None:
    period = period_seconds(Lifetime(max_age_seconds=age, keepalive_seconds=keepalive))
    shortest = min([seconds for seconds in (age, keepalive) if seconds], default=float("inf"))
    assert period == float("inf") if shortest == float("inf") else period <= shortest / 5
