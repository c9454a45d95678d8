"""What a worker counts, read as prometheus_client reads it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from server.supervisor.page import VARIABLE, MetricsFolder

# Counts from several threads and many series, so that the files grow under them; prints what should be read.
WRITER = """
import sys
from threading import Thread
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from server.worker.cells import write_quickly
if sys.argv[1] == "quick":
    write_quickly()
registry = CollectorRegistry()
counter = Counter("calls", "Calls.", ["series"], registry=registry)
histogram = Histogram("seconds", "Seconds.", ["series"], registry=registry, buckets=(0.1, 1))
gauge = Gauge("waiting", "Waiting.", registry=registry, multiprocess_mode="livesum")
first = counter.labels("first")
first.inc()
# Each name is long: 2,000 of them are some megabytes, and a file begins with 64 KiB.
for k in range(2000):
    counter.labels(f"{k}-" + "x" * 1000).inc(k)
first.inc(0.5)

def count():
    for _ in range(2000):
        first.inc()
        histogram.labels("first").observe(0.25)

threads = [Thread(target=count) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gauge.set(3)
gauge.inc()
gauge.dec(2)
"""


@pytest.fixture
def folder() -> Iterator[MetricsFolder]:
    folder = MetricsFolder()
    yield folder
    folder.close()


@pytest.mark.parametrize("how", ["quick", "theirs"])
def test_everything_is_read_as_it_was_counted(folder: MetricsFolder, how: str) -> None:
    environ = {**os.environ, VARIABLE: str(folder.path)}
    command = [sys.executable, "-W", "error", "-c", WRITER, how]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(path.stat().st_size for path in Path(folder.path).glob("counter*")) > 1 << 20, "the file has grown"
    registry = CollectorRegistry()
    registry.register(folder)

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert read("calls_total", series="first") == 8001.5
    assert all(read("calls_total", series=f"{k}-" + "x" * 1000) == k for k in (0, 1, 1999))
    assert read("seconds_sum", series="first") == 2000.0
    assert [read("seconds_bucket", series="first", le=le) for le in ("0.1", "1.0", "+Inf")] == [0, 8000, 8000]
    assert read("waiting") == 2
