"""What every serving process has around its server."""

import gc
from collections.abc import Iterator

import pytest

from server.process import COLLECTOR_THRESHOLDS, keep_for_good


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def test_what_is_kept_for_good_is_looked_at_no_more() -> None:
    """New cycles still are."""
    kept: list[object] = []
    keep_for_good()
    assert gc.get_freeze_count() > 1000
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_threshold() == COLLECTOR_THRESHOLDS
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.collect() >= 1
