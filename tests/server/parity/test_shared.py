"""One reference process for all workers: joined, watched, and started again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nextvalue.v1.nextvalue_pb2_grpc import NextValueStub
from tests.server.group import connections, descendants, gone, group, references_of, total
from tests.server.harness import LIMIT_SECONDS, ServerProcess, eventually_sync, predict_request

pytestmark = [pytest.mark.live, pytest.mark.slow]

WINDOW = np.zeros((1, 5, 1), np.float32)
NUM_CONNECTIONS = 12


@pytest.fixture
def pair(models: Path) -> Iterator[ServerProcess]:
    checked = ["--parity-share", "1", "--reference", "auto", "--reference-timeout-seconds", "2"]
    with group(models, *checked) as process:
        process.await_ready()
        process.await_line("reference process .* started")
        yield process


def call_all(process: ServerProcess) -> None:
    """Once over each connection."""
    with connections(process.target, NUM_CONNECTIONS) as channels:
        for channel in channels:
            NextValueStub(channel).Predict(predict_request("demo", WINDOW), timeout=LIMIT_SECONDS)


def matches(process: ServerProcess) -> float:
    return total(process, "nextvalue_parity_checks_total", model="demo", result="match")


def await_checked(process: ServerProcess) -> None:
    """Call until checks are made again."""
    before = matches(process)

    def checked() -> bool:
        call_all(process)
        return matches(process) > before

    eventually_sync(checked, "a check")


def test_one_for_all_and_again_when_it_dies_or_hangs(pair: ServerProcess) -> None:
    eventually_sync(lambda: len(references_of(pair)) == 1, "the reference")
    await_checked(pair)
    (first,) = references_of(pair)

    first.kill()
    eventually_sync(lambda: [each.pid for each in references_of(pair)] not in ([], [first.pid]), "another")
    await_checked(pair)
    (second,) = references_of(pair)
    # Workers may be answered before the supervisor is; one that hangs until then counts as one that is slow to start.
    pair.await_line(f"reference process {second.pid} answers")

    os.kill(second.pid, signal.SIGSTOP)
    call_all(pair)
    eventually_sync(lambda: [each.pid for each in references_of(pair)] not in ([], [second.pid]), "a third")
    await_checked(pair)

    page = pair.page()
    assert 'result="mismatch",version="1"} 0.0' in page
    (third,) = references_of(pair)
    started = descendants(pair)
    folder = Path(third.cmdline()[third.cmdline().index("--listen") + 1].removeprefix("unix:")).parent
    assert folder.is_dir()
    pair.terminate()
    assert pair.wait() == 0
    gone(started)
    assert not folder.exists()
    assert "Traceback" not in pair.log
