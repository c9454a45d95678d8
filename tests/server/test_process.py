"""What every serving process has around its server."""

import gc
import subprocess
import sys
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


def test_no_header_is_ever_logged() -> None:
    """Not even at debug: a caller's may hold a secret."""
    code = (
        "import logging; from server.process import set_up_log; set_up_log('debug'); import hpack; "
        "hpack.Decoder().decode(hpack.Encoder().encode([('authorization', 'Bearer s3cret')])); "
        "logging.getLogger('nextvalue').debug('as asked for')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "as asked for" in done.stderr
    assert "s3cret" not in done.stderr
