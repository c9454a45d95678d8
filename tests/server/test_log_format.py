"""Log lines for people, and for programs."""

import json
import logging
import sys

import pytest

from server.log_format import JsonFormat, TextFormat


@pytest.fixture
def record() -> logging.LogRecord:
    record = logging.LogRecord("nextvalue.x", logging.WARNING, "", 0, "said %s", ('"that"\n',), None)
    record.fields = {"model": "m", "queue_ms": 0.5}
    return record


def test_text(record: logging.LogRecord) -> None:
    assert TextFormat("worker 2 ").format(record).partition(" WARNING ")[2] == (
        'worker 2 nextvalue.x said "that"\n model=m queue_ms=0.5'
    )


def test_json(record: logging.LogRecord) -> None:
    line = JsonFormat(worker=2).format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert said.pop("time").startswith("20")
    assert said == {
        "level": "warning", "logger": "nextvalue.x", "message": 'said "that"\n', "worker": 2, "model": "m",
        "queue_ms": 0.5,
    }  # fmt: skip


def test_an_exception_is_in_the_same_line(record: logging.LogRecord) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = JsonFormat().format(record)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: broken")
