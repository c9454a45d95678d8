"""Numbers as a person reads them."""

import math

import pytest

from server.status import numbers


@pytest.mark.parametrize(
    ("count", "seconds", "shown"),
    [(0, 5, "0"), (1, 3, "0.333"), (123456, 10, "12,346"), (995, 10, "99.5"), (1, 1000, "< 0.01")],
)
def test_rates(count: float, seconds: float, shown: str) -> None:
    assert numbers.rate(count, seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "–"), (25e-6, "25 µs"), (1.234e-3, "1.23 ms"), (2.5, "2.5 s"), (math.inf, "> 5 s"), (5e-7, "0.5 µs")],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert numbers.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (3600, "1 h 0 min"),
        (3725, "1 h 2 min"),
        (86400 * 3 + 7200, "3 d 2 h"),
        (61, "1 min 1 s"),
    ],
)
def test_ages(seconds: float, shown: str) -> None:
    assert numbers.age(seconds) == shown


def test_shares() -> None:
    assert (numbers.share(0, 0), numbers.share(1, 8), numbers.share(0, 8)) == ("–", "12.5 %", "0 %")
