"""The parity monitor with a reference made up on the spot."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from export.artifact.frames import Frame
from export.artifact.limits import HALF
from export.artifact.manifest import Manifest
from server.metrics import Metrics
from server.parity import monitor as monitor_module
from server.parity.link import LinkDown
from server.parity.monitor import MAX_QUEUED_CHECKS, MAX_WINDOWS_PER_CHECK, ParityMonitor
from tests.server.harness import LIMIT_SECONDS, eventually_sync
from tests.server.oracle import Oracle


class FakeLink:
    """Answers with `answer`; waits before each until `go` is set."""

    def __init__(self, answer: Callable[[Frame], Frame]) -> None:
        self.answer = answer
        self.go = threading.Event()
        self.go.set()
        self.asked: list[Frame] = []
        self.closed = False

    def call(self, frame: Frame) -> Frame:
        if frame.fields["type"] == "hello":
            return Frame({"type": "ready"}, {})
        self.asked.append(frame)
        assert self.go.wait(LIMIT_SECONDS)
        if self.closed:
            raise LinkDown("closed")
        return self.answer(frame)

    def close(self) -> None:
        self.closed = True
        self.go.set()


class Bench:
    def __init__(self, oracle: Oracle, answer: Callable[[Frame], Frame], share: float) -> None:
        self.link = FakeLink(answer)
        self.registry = CollectorRegistry()
        self.monitor = ParityMonitor(self.link, Metrics(self.registry), share=share, seed=1)
        self.manifest: Manifest = oracle.manifest
        self.oracle = oracle

    def offer(self, windows: NDArray[np.float32], *, off_by: float = 0.0, graph: str = "window") -> None:
        served = self.oracle.next(windows).astype(np.float32) + np.float32(off_by)
        self.offer_served(windows, served, graph)

    def offer_served(self, windows: NDArray[np.float32], served: NDArray[np.float32], graph: str = "window") -> None:
        self.monitor.offer(self.manifest, {"window": windows}, {"next": served}, graph=graph)

    def count(self, result: str) -> float:
        labels = {"model": self.manifest.name, "version": "1", "result": result}
        return self.registry.get_sample_value("nextvalue_parity_checks_total", labels) or 0.0

    def abs_error(self, suffix: str) -> float:
        name = f"nextvalue_parity_abs_error_{suffix}"
        return self.registry.get_sample_value(name, {"model": "demo", "version": "1"}) or 0.0

    def await_count(self, result: str, expected: float) -> None:
        eventually_sync(lambda: self.count(result) >= expected, f"{expected} × {result}")
        assert self.count(result) == expected


@contextmanager
def bench(oracle: Oracle, answer: Callable[[Frame], Frame] | None = None, *, share: float = 1.0) -> Iterator[Bench]:
    def right(frame: Frame) -> Frame:
        return Frame({"type": "result"}, {"next": oracle.next(frame.arrays["window"])})

    made = Bench(oracle, answer or right, share)
    made.monitor.start()
    try:
        yield made
    finally:
        made.monitor.close()


def test_what_agrees_is_a_match(demo: Oracle, generator: np.random.Generator) -> None:
    with bench(demo) as b:
        for _ in range(5):
            b.offer(demo.random_windows(generator, 3))
        b.await_count("match", 5)
        assert (b.count("mismatch"), b.count("dropped")) == (0, 0)
        assert b.abs_error("count") == 5
        assert b.monitor.worst.within
        asked = b.link.asked[0]
        assert asked.fields == {"type": "run", "model": "demo", "version": 1, "graph": "window"}


@pytest.mark.parametrize("off_by", [0.1, -0.1, np.nan, np.inf])
def test_what_differs_is_a_mismatch(
    demo: Oracle, generator: np.random.Generator, off_by: float, caplog: pytest.LogCaptureFixture
) -> None:
    with bench(demo) as b:
        b.offer(demo.random_windows(generator, 3), off_by=off_by)
        b.await_count("mismatch", 1)
        assert b.count("match") == 0
        assert "parity mismatch: demo/1" in caplog.text
        if np.isfinite(off_by):
            assert b.abs_error("sum") == pytest.approx(0.1, rel=0.01)


def test_one_bad_window_among_many_is_a_mismatch(demo: Oracle, generator: np.random.Generator) -> None:
    with bench(demo) as b:
        windows = demo.random_windows(generator, 100)
        served = demo.next(windows).astype(np.float32)
        served[57] += 1
        b.offer_served(windows, served)
        b.await_count("mismatch", 1)


def test_just_beyond_the_limit(demo: Oracle) -> None:
    """The artifact's own limit decides: 1e-5 · scale and two units in the last place."""
    windows = np.zeros((1, demo.window, 1), np.float32)
    limit = 1e-5 * demo.manifest.transform.scale
    with bench(demo) as b:
        b.offer(windows, off_by=0.9 * limit)
        b.await_count("match", 1)
        b.offer(windows, off_by=1.5 * limit)
        b.await_count("mismatch", 1)


def test_a_run_of_a_float16_graph_is_held_to_its_own_row(half_models: Path) -> None:
    oracle = Oracle(half_models / "demo" / "1")
    windows = np.zeros((1, oracle.window, 1), np.float32)
    limit = HALF.relative_to_scale * oracle.manifest.transform.scale
    with bench(oracle) as b:
        b.offer(windows, off_by=0.9 * limit, graph="half")
        b.await_count("match", 1)
        b.offer(windows, off_by=1.5 * limit, graph="half")
        b.await_count("mismatch", 1)
        b.offer(windows, off_by=0.9 * limit)
        b.await_count("mismatch", 2)


def test_a_full_queue_drops_with_a_count_and_never_blocks(demo: Oracle, generator: np.random.Generator) -> None:
    with bench(demo) as b:
        b.link.go.clear()
        b.offer(demo.random_windows(generator, 1))
        eventually_sync(lambda: b.link.asked, "the first check")
        for _ in range(MAX_QUEUED_CHECKS + 10):
            b.offer(demo.random_windows(generator, 1))
        assert b.count("dropped") == 10
        b.link.go.set()
        b.await_count("match", MAX_QUEUED_CHECKS + 1)


def down(frame: Frame) -> Frame:
    raise LinkDown("it hangs")


def broken(frame: Frame) -> Frame:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(
    "answer",
    [
        down,
        broken,
        lambda _: Frame({"type": "error", "message": "no such model"}, {}),
        lambda _: Frame({"type": "result"}, {}),
        lambda _: Frame({"type": "result"}, {"next": np.zeros((99, 1))}),
    ],
    ids=["down", "broken", "error", "empty", "shape"],
)
def test_a_reference_that_does_not_answer_is_a_drop_and_the_next_check_is_made(
    demo: Oracle, generator: np.random.Generator, answer: Callable[[Frame], Frame]
) -> None:
    with bench(demo, answer) as b:
        b.offer(demo.random_windows(generator, 2))
        b.await_count("dropped", 1)
        b.link.answer = lambda frame: Frame({"type": "result"}, {"next": demo.next(frame.arrays["window"])})
        b.offer(demo.random_windows(generator, 2))
        b.await_count("match", 1)
        assert (b.count("mismatch"), b.abs_error("count")) == (0, 1)


def test_the_arrays_are_copied(demo: Oracle, generator: np.random.Generator) -> None:
    """The caller's buffers may be gone before the check is made."""
    with bench(demo) as b:
        b.link.go.clear()
        windows = demo.random_windows(generator, 2)
        b.offer(windows)
        windows[:] = 0
        b.link.go.set()
        b.await_count("match", 1)


def test_a_large_run_is_compared_in_part_from_end_to_end(demo: Oracle, generator: np.random.Generator) -> None:
    with bench(demo) as b:
        windows = demo.random_windows(generator, 3 * MAX_WINDOWS_PER_CHECK + 100)
        b.offer(windows)
        b.await_count("match", 1)
        asked = b.link.asked[0].arrays["window"]
        assert len(asked) == MAX_WINDOWS_PER_CHECK
        np.testing.assert_array_equal(asked[[0, -1]], windows[[0, -1]])


@pytest.mark.parametrize("row", [0, 100, 999])
def test_extreme_windows_are_left_out(demo: Oracle, generator: np.random.Generator, row: int) -> None:
    """Where float32 overflows and float64 does not, a caller's nonsense would look like our fault."""
    with bench(demo) as b:
        windows = demo.random_windows(generator, 1000)
        served = demo.next(windows).astype(np.float32)
        windows[row], served[row] = 3e38, np.inf
        b.offer_served(windows, served)
        b.await_count("match", 1)
        b.offer_served(windows[row : row + 1], served[row : row + 1])
        assert (b.count("match"), b.count("mismatch"), b.count("dropped")) == (1, 0, 0)


def test_a_fault_that_repeats_is_logged_once_in_a_while(
    demo: Oracle, generator: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    with bench(demo) as b:
        for _ in range(20):
            b.offer(demo.random_windows(generator, 1), off_by=1.0)
        b.await_count("mismatch", 20)
        assert caplog.text.count("parity mismatch: demo/1") == 1


def test_a_mismatch_is_logged_though_drops_were_just_before(
    demo: Oracle, generator: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all that is said less often, the one that matters is not lost among the others."""
    with bench(demo, down) as b:
        b.offer(demo.random_windows(generator, 1))
        b.await_count("dropped", 1)
        b.link.answer = lambda frame: Frame({"type": "result"}, {"next": demo.next(frame.arrays["window"])})
        b.offer(demo.random_windows(generator, 1), off_by=1.0)
        b.await_count("mismatch", 1)
        eventually_sync(lambda: "parity mismatch: demo/1" in caplog.text, "the line")


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_is_checked(
    demo: Oracle, generator: np.random.Generator, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "MAX_QUEUED_CHECKS", 10_000)
    with bench(demo, share=share) as b:
        for _ in range(1000):
            b.offer(demo.random_windows(generator, 1))
        eventually_sync(b.monitor._queue.empty, "all checks")
        b.monitor.close()
        # Ten standard deviations of a fair draw.
        assert abs(len(b.link.asked) - 1000 * share) <= 10 * (1000 * share * (1 - share)) ** 0.5
        assert b.count("dropped") == 0


def test_close_waits_for_nobody(demo: Oracle, generator: np.random.Generator) -> None:
    with bench(demo) as b:
        b.link.go.clear()
        for _ in range(20):
            b.offer(demo.random_windows(generator, 1))
        eventually_sync(lambda: b.link.asked, "the first check")
        b.monitor.close()
        assert not b.monitor._thread.is_alive()
        assert len(b.link.asked) == 1


def test_close_before_start(demo: Oracle) -> None:
    monitor = ParityMonitor(FakeLink(down), Metrics(CollectorRegistry()), share=1.0)
    monitor.close()


def test_a_first_hello_that_fails_is_not_the_end(demo: Oracle, generator: np.random.Generator) -> None:
    link = FakeLink(lambda frame: Frame({"type": "result"}, {"next": demo.next(frame.arrays["window"])}))
    answering, link.call = link.call, down  # type: ignore[method-assign]
    registry = CollectorRegistry()
    monitor = ParityMonitor(link, Metrics(registry), share=1.0)
    monitor.start()
    try:
        link.call = answering  # type: ignore[method-assign]
        windows = demo.random_windows(generator, 1)
        monitor.offer(demo.manifest, {"window": windows}, {"next": demo.next(windows).astype(np.float32)})
        labels = {"model": "demo", "version": "1", "result": "match"}
        eventually_sync(lambda: registry.get_sample_value("nextvalue_parity_checks_total", labels) == 1, "a match")
    finally:
        monitor.close()
