"""Rates need two looks; nobody but a reader looks."""

import pytest

from server.status.history import History
from tests.server.status.samples import Counted


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def history(counted: Counted) -> History:
    return History(counted.registry.collect, counted.clock)


def test_the_first_look_knows_the_whole_life(counted: Counted, history: History) -> None:
    counted.calls(6, 0.01)
    counted.now += 3
    _, periods = history.look()
    assert [(each.name, each.seconds, each.counted.calls()) for each in periods] == [("since the start", 3, 6)]


def test_a_minute_and_the_last_seconds(counted: Counted, history: History) -> None:
    for _ in range(40):
        history.look()
        counted.calls(2, 0.01)
        counted.now += 5
    latest, periods = history.look()
    assert latest.calls() == 80
    assert [(each.name, each.counted.calls()) for each in periods] == [
        ("last 5 s", 2), ("last 65 s", 26), ("since the start", 80)
    ]  # fmt: skip


def test_looks_that_follow_close_are_one(counted: Counted, history: History) -> None:
    first, _ = history.look()
    counted.calls(1, 0.01)
    counted.now += 0.5
    second, _ = history.look()
    assert second is first
    counted.now += 0.6
    third, periods = history.look()
    assert third.calls() == 1
    assert [each.name for each in periods] == ["last 1 s", "since the start"]


def test_an_old_look_is_no_rate(counted: Counted, history: History) -> None:
    """Somebody looked an hour ago."""
    history.look()
    counted.now += 3600
    _, periods = history.look()
    assert [each.name for each in periods] == ["since the start"]
