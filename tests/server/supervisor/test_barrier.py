"""Nobody is ready before every first worker is."""

from server.supervisor.barrier import Barrier


def test_the_last_one_opens_it_for_all() -> None:
    barrier = Barrier(3)
    assert barrier.ready(11) == []
    assert barrier.ready(12) == []
    assert not barrier.passed
    assert barrier.ready(13) == [11, 12, 13]
    assert barrier.passed


def test_one_that_died_meanwhile_does_not_count() -> None:
    barrier = Barrier(2)
    assert barrier.ready(1) == []
    barrier.gone(1)
    assert barrier.ready(2) == []
    assert barrier.num_ready == 1
    assert barrier.ready(3) == [2, 3]


def test_one_that_was_replaced_is_on_its_own() -> None:
    barrier = Barrier(2)
    barrier.ready(1)
    barrier.ready(2)
    barrier.gone(1)
    barrier.gone(1)  # drained, and then died
    assert (barrier.passed, barrier.num_ready) == (True, 1)
    assert barrier.ready(3) == [3]
    assert barrier.num_ready == 2
