"""What a queue takes, by the runs it will go in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.pace import Pace


def test_by_the_size_of_the_runs() -> None:
    pace = Pace(largest=512)
    pace.ran(1, 50e-6)
    assert pace.seconds(1) == pytest.approx(50e-6)
    assert pace.seconds(512) == 0, "what one window takes says nothing of 512"
    pace.ran(512, 1e-3)
    assert pace.seconds(512) == pytest.approx(1e-3)
    assert pace.seconds(5120) == pytest.approx(10e-3)
    assert pace.seconds(1) == pytest.approx(50e-6)
    assert pace.seconds(0) == 0


@given(st.lists(st.floats(1e-6, 1.0), min_size=1))
def test_an_average_of_what_there_was(found: list[float]) -> None:
    pace = Pace(largest=64)
    for seconds in found:
        pace.ran(64, seconds)
    assert 0.999 * min(found) <= pace.seconds(64) <= 1.001 * max(found)


def test_it_follows_what_changes() -> None:
    pace = Pace(largest=64)
    pace.ran(64, 1.0)
    for _ in range(30):
        pace.ran(64, 2.0)
    assert pace.seconds(64) == pytest.approx(2.0, rel=0.01)
