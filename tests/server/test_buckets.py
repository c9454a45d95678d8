"""Runs in buckets with bound memory, on the CPU in a GPU's part: what they give is what plain runs give."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.artifact.folder import Artifact
from server.buckets import Buckets
from server.engine import Session
from server.provider import CPU, CUDA, choose_provider
from server.session import load_session, session_options
from server.tensors import Tensors
from tests.server.conftest import MODELS
from tests.server.oracle import Oracle
from tests.server.test_provider import needs_cuda

LARGEST = 48


class Noted:
    """An onnxruntime session that notes what runs: rows and CUDA graph of bound runs, rows of others."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.bound: list[int] = []
        self.unbound: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: ort.IOBinding, options: ort.RunOptions) -> None:
        self.bound.append(int(options.get_run_config_entry("gpu_graph_id")))
        self._session.run_with_iobinding(binding, options)

    def run(self, names: list[str], inputs: Tensors, options: ort.RunOptions) -> Any:
        self.unbound.append((len(inputs["window"]), int(options.get_run_config_entry("gpu_graph_id"))))
        return self._session.run(names, inputs, options)


@functools.cache
def _session(graph: Path) -> ort.InferenceSession:
    return ort.InferenceSession(graph.read_bytes(), session_options(choose_provider("cpu")), providers=[CPU])


def _buckets(models: Path, name: str, *, capture: bool = False, largest: int = LARGEST) -> tuple[Buckets, Noted]:
    noted = Noted(_session(models / name / "1" / "window.onnx"))
    return Buckets(noted, "cpu", largest=largest, capture=capture), noted


def _inputs(oracle: Oracle, generator: np.random.Generator, count: int) -> Tensors:
    call = oracle.random_call(generator, count, oracle.direct_horizon)
    numbers = {} if call.series is None else {"series": oracle.numbers(call.series)}
    return {"window": call.windows, **call.context, **numbers}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_runs_of_any_size_in_any_order_give_what_the_equations_give(
    models: Path, oracles: dict[str, Oracle], data: st.DataObject
) -> None:
    """Buckets hold rows of earlier runs behind their own, of which nothing may reach an answer."""
    name = data.draw(st.sampled_from(MODELS))
    oracle, (buckets, _) = oracles[name], _buckets(models, name)
    plain = _session(models / name / "1" / "window.onnx")
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for count in data.draw(st.lists(st.integers(1, LARGEST + 10), min_size=1, max_size=6)):
        inputs = _inputs(oracle, generator, count)
        found = buckets.run(inputs)
        names = [each.name for each in plain.get_outputs()]
        assert list(found) == names
        for output, expected in zip(names, plain.run(names, inputs), strict=True):
            assert found[output].shape == expected.shape
            assert found[output].dtype == expected.dtype
            np.testing.assert_allclose(found[output], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("count", "bucket"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (17, 32), (32, 32), (33, 48), (48, 48)]
)
def test_the_bucket_is_the_next_power_of_two_or_the_largest(
    models: Path, demo: Oracle, generator: np.random.Generator, count: int, bucket: int
) -> None:
    buckets, noted = _buckets(models, "demo", capture=True)
    windows = demo.random_windows(generator, count)
    demo.assert_right(buckets.run({"window": windows})["next"], demo.next(windows))
    assert noted.bound == [bucket], "a captured graph is named after its bucket"


def test_beyond_the_largest_bucket_nothing_is_captured(
    models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    buckets, noted = _buckets(models, "demo", capture=True, largest=4)
    windows = demo.random_windows(generator, 5)
    demo.assert_right(buckets.run({"window": windows})["next"], demo.next(windows))
    assert (noted.bound, noted.unbound) == ([], [(5, -1)])


def test_where_nothing_is_captured_no_run_asks_for_it(
    models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    buckets, noted = _buckets(models, "demo")
    for count in (1, 3, 1):
        buckets.run({"window": demo.random_windows(generator, count)})
    assert noted.bound == [-1, -1, -1]


def test_a_capture_is_tried_out_in_the_smallest_bucket(models: Path) -> None:
    """Once to capture, once to launch what was captured."""
    for name in MODELS:
        buckets, noted = _buckets(models, name, capture=True)
        buckets.try_out()
        assert noted.bound == [1, 1]


def test_memory_is_bound_once_for_each_bucket(
    models: Path, demo: Oracle, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A captured graph writes to the addresses it was captured with."""
    buckets, noted = _buckets(models, "demo", capture=True)
    made: list[list[int]] = []
    make = ort.OrtValue.ortvalue_from_shape_and_type

    def noting(shape: list[int], *more: Any) -> ort.OrtValue:
        made.append(shape)
        return make(shape, *more)

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", noting)
    for count in (3, 4, 3, 7, 8, 4):
        buckets.run({"window": demo.random_windows(generator, count)})
    assert noted.bound == [4, 4, 4, 8, 8, 4]
    assert made == [[4, 5, 1], [4, 1], [8, 5, 1], [8, 1]]


def test_answers_are_copies(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    """They stay what they were when the bucket runs again, and may be written to."""
    buckets, _ = _buckets(models, "demo")
    windows = [demo.random_windows(generator, count) for count in (3, 4, 2)]
    answers = [buckets.run({"window": each})["next"] for each in windows]
    for answer, each in zip(answers, windows, strict=True):
        demo.assert_right(answer, demo.next(each))
        answer[...] = np.nan
    demo.assert_right(buckets.run({"window": windows[0]})["next"], demo.next(windows[0]))


def test_what_does_not_fit_is_refused_and_leaves_nothing_behind(
    models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    buckets, noted = _buckets(models, "demo")
    windows = demo.random_windows(generator, 3)
    with pytest.raises(ValueError, match=r"window is \[3, 1, 1\]; it must be \[3, 5, 1\]"):
        buckets.run({"window": windows[:, :1]})
    with pytest.raises(TypeError, match="Cannot cast"):
        buckets.run({"window": windows.astype(np.float64)})
    with pytest.raises(KeyError, match="window"):
        buckets.run({"windows": windows})
    assert noted.bound == []
    demo.assert_right(buckets.run({"window": windows})["next"], demo.next(windows))


def test_inputs_that_do_not_agree_on_their_rows_are_refused(
    models: Path, demand: Oracle, generator: np.random.Generator
) -> None:
    """A bucket has room for them all, so nothing but the check would notice."""
    buckets, _ = _buckets(models, "demand")
    inputs = _inputs(demand, generator, 3)
    inputs["series"] = inputs["series"][:2]
    with pytest.raises(ValueError, match=r"series is \[2, 1\]; it must be \[3, 1\]"):
        buckets.run(inputs)


@pytest.mark.gpu
@needs_cuda
class TestOnAGpu:
    """The same on CUDA, with captured graphs and without."""

    @pytest.fixture(params=[True, False], ids=["captured", "uncaptured"])
    def cuda_graphs(self, request: pytest.FixtureRequest) -> bool:
        return bool(request.param)

    @pytest.fixture(params=MODELS)
    def artifact(self, request: pytest.FixtureRequest, models: Path) -> Artifact:
        return Artifact(models / request.param / "1")

    @pytest.fixture
    def session(self, artifact: Artifact, cuda_graphs: bool, caplog: pytest.LogCaptureFixture) -> Session:
        data = artifact.read("window.onnx")
        with caplog.at_level("INFO"):
            session = load_session(
                artifact.manifest,
                "window",
                data,
                choose_provider("cuda"),
                largest_batch=LARGEST,
                cuda_graphs=cuda_graphs,
            )
        assert "without CUDA graphs" not in caplog.text
        assert "not pinned" not in caplog.text
        return session

    def test_capture_and_replay_in_two_buckets(
        self, session: Session, artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator
    ) -> None:
        """By turns, so that each bucket's graph is launched after the other's has run."""
        oracle = oracles[artifact.manifest.name]
        for count in (3, 7, 4, 5, 3, 8):
            call = oracle.random_call(generator, count, oracle.direct_horizon)
            numbers = {} if call.series is None else {"series": oracle.numbers(call.series)}
            found = session.run({"window": call.windows, **call.context, **numbers})
            oracle.assert_right(found["next"], oracle.expect(call))

    def test_bound_runs_give_what_plain_runs_give(
        self, session: Session, artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator
    ) -> None:
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")
        for count in (1, 2, 7, 33, LARGEST, LARGEST + 1):
            inputs = _inputs(oracles[artifact.manifest.name], generator, count)
            found = session.run(inputs)
            for name, expected in zip(found, session._session.run(list(found), inputs, options), strict=True):
                np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-4)

    def test_every_node_is_on_cuda_and_none_copies(self, session: Session) -> None:
        assert set(session.nodes_by_provider()) == {CUDA}
        assert not session.nodes_elsewhere()
