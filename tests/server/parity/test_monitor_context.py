"""The parity monitor on models with further inputs and outputs, each row in a unit of its own."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from export.artifact.frames import Frame
from server.parity.monitor import MAX_BYTES_PER_CHECK
from server.tensors import Tensors
from tests.server.harness import eventually_sync
from tests.server.oracle import Call, Oracle
from tests.server.parity.test_monitor import Bench


class ContextBench(Bench):
    """Offers calls to a model with every input and output."""

    def offer_call(self, call: Call, **off_by: NDArray[np.float64] | float) -> None:
        """Serve it, outputs off by so much."""
        inputs: Tensors = {"window": call.windows, **call.context}
        if call.series is not None:
            inputs["series"] = self.oracle.numbers(call.series)
        served = {name: array + off_by.get(name, 0.0) for name, array in self.oracle.run(inputs).items()}
        self.monitor.offer(self.manifest, inputs, {name: array.astype(np.float32) for name, array in served.items()})


@contextmanager
def context_bench(oracle: Oracle) -> Iterator[ContextBench]:
    made = ContextBench(oracle, lambda frame: Frame({"type": "result"}, dict(oracle.run(frame.arrays))), 1.0)
    made.monitor.start()
    try:
        yield made
    finally:
        made.monitor.close()


@pytest.mark.parametrize("name", ["demand", "windowed"])
def test_all_inputs_are_sent_and_all_outputs_compared(
    oracles: dict[str, Oracle], generator: np.random.Generator, name: str
) -> None:
    oracle = oracles[name]
    with context_bench(oracle) as b:
        call = oracle.random_call(generator, 50)
        b.offer_call(call)
        b.await_count("match", 1)
        asked = b.link.asked[0].arrays
        assert set(asked) == {"window", *call.context}
        np.testing.assert_array_equal(asked["window"], call.windows)
        for output in ("next", "lower", "upper", "unit"):
            off_by = np.zeros_like(oracle.run(b.link.asked[0].arrays)[output])
            off_by[37] = 0.05
            b.offer_call(call, **{output: off_by})
        b.await_count("mismatch", 4)
        assert b.count("match") == 1


def test_each_row_is_judged_in_its_own_unit(demand: Oracle, generator: np.random.Generator) -> None:
    """What is within the limit of a large series is far beyond that of a small one."""
    large, small = (
        dataclasses.replace(
            demand.random_call(generator, 1), windows=demand.random_windows(generator, 1, [name]), series=[name]
        )
        for name in ("shop-b", "Café ☕")
    )
    with context_bench(demand) as b:
        b.offer_call(large, upper=1e-3)
        b.await_count("match", 1)
        b.offer_call(small, upper=1e-3)
        b.await_count("mismatch", 1)
        assert b.count("match") == 1


@pytest.mark.parametrize("output", ["next", "lower", "upper", "unit"])
def test_a_reference_that_leaves_an_output_out_is_a_drop(
    demand: Oracle, generator: np.random.Generator, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    with context_bench(demand) as b:
        b.link.answer = lambda frame: Frame(
            {"type": "result"}, {name: array for name, array in demand.run(frame.arrays).items() if name != output}
        )
        b.offer_call(demand.random_call(generator, 2))
        b.await_count("dropped", 1)
        assert (b.count("match"), b.count("mismatch")) == (0, 0)
        eventually_sync(lambda: "reference of demand/1: an answer of other shapes" in caplog.text, "the line")


def test_wide_rows_are_compared_in_smaller_numbers(demand: Oracle, generator: np.random.Generator) -> None:
    """The bound is in bytes, of all that goes into a check."""
    with context_bench(demand) as b:
        b.link.go.clear()
        inputs: Tensors = {"window": np.zeros((2000, 6, 2), np.float32), "series": np.zeros((2000, 1), np.int64)}
        outputs: Tensors = {"next": np.zeros((2000, MAX_BYTES_PER_CHECK // 100), np.float32)}
        b.monitor.offer(b.manifest, inputs, outputs)
        eventually_sync(lambda: b.link.asked, "the check")
        assert len(b.link.asked[0].arrays["window"]) == 24
