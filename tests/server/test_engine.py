"""An artifact's graphs in onnxruntime."""

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock, patch

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.artifact import plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from export.artifact.manifest import PlanEntry
from server.engine import MOST_BOUND, Engine, Session, load_session, plan_for
from server.gate import LoadOptions, check_batch_invariance, invariant_filling, load_engine
from server.provider import CPU, choose_provider
from server.tensors import Tensors
from tests.server.conftest import MODELS
from tests.server.oracle import Oracle


@pytest.fixture(scope="session", params=MODELS)
def artifact(request: pytest.FixtureRequest, models: Path) -> Artifact:
    return Artifact(models / request.param / "1")


def test_every_node_is_counted_where_it_runs(artifact: Artifact) -> None:
    """The session's own assignment, after its optimisations: all nodes, and all on the CPU."""
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    counts = engine.nodes_by_provider()
    assert set(counts) == {CPU}
    manifest = artifact.manifest
    recurrent = {"rnn": 1, "gru": 3, "lstm": 4}[manifest.cell]  # Linears per step
    assert counts[CPU] >= recurrent * manifest.window * manifest.num_layers * manifest.transition_depth


def test_windows_give_what_the_equations_give(
    artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator
) -> None:
    oracle = oracles[artifact.manifest.name]
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    for batch in (1, 2, 7, 64, 513):
        call = oracle.random_call(generator, batch, oracle.direct_horizon)
        inputs = {"window": call.windows, **call.context}
        if call.series is not None:
            inputs["series"] = oracle.numbers(call.series)
        found, expected = engine.run(inputs), oracle.expect(call)
        oracle.assert_right(found["next"], expected)
        if oracle.levels:
            oracle.assert_ends_right(found["lower"], found["upper"], expected)


def test_golden_is_replayed_at_load(artifact: Artifact) -> None:
    _, worst = load_engine(artifact, choose_provider("cpu"))
    assert worst.within
    assert worst.abs_error > 0, "nothing was compared"


def test_the_step_graph_is_not_kept(artifact: Artifact) -> None:
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    assert set(engine.sessions) == {"window"}


def test_a_graph_that_is_none_names_its_file(models: Path) -> None:
    manifest = Artifact(models / "demo" / "1").manifest
    with pytest.raises(ArtifactError, match=r"^window\.onnx: onnxruntime cannot load it: "):
        load_session(manifest, "window", b"not a graph", choose_provider("cpu"))


def test_a_session_names_its_outputs(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    session = Session((models / "demo" / "1" / "window.onnx").read_bytes(), choose_provider("cpu"))
    windows = demo.random_windows(generator, 3)
    outputs = session.run({"window": windows})
    assert set(outputs) == {"next"}
    demo.assert_right(outputs["next"], demo.next(windows))


def _sessions(artifact: Artifact) -> dict[str, Session]:
    manifest, cpu = artifact.manifest, choose_provider("cpu")
    return {
        name: load_session(manifest, name, artifact.read(manifest.graphs[name].file), cpu)
        for name in manifest.window_graphs()
    }


def test_the_plan_chooses_by_the_number_of_windows(artifact: Artifact) -> None:
    cpu = choose_provider("cpu")
    names = artifact.manifest.window_graphs()
    entries = [PlanEntry(max_batch=8, graph=names[-1]), PlanEntry(max_batch=None, graph=names[0])]
    engine = Engine(artifact.manifest, _sessions(artifact), cpu, entries)
    runs: list[str] = []

    def noted(name: str) -> Callable[[Tensors], Tensors]:
        def run(_: Tensors) -> Tensors:
            runs.append(name)
            return {}

        return run

    for name, session in engine.sessions.items():
        session.run = noted(name)  # type: ignore[method-assign,assignment]
    engine.warm(16)
    assert runs == [names[-1]] * 4 + [names[0]]


def test_a_plan_made_elsewhere_is_not_kept(models: Path) -> None:
    manifest = Artifact(models / "demo" / "1").manifest
    entries = [PlanEntry(max_batch=None, graph="fused")]
    for provider, expected in (("CPUExecutionProvider", entries), ("CUDAExecutionProvider", plan.fixed("window"))):
        timed = msgspec.structs.replace(manifest, plan=entries, plan_provider=provider)
        assert plan_for(timed, choose_provider("cpu")) == expected


def test_tuned_at_load_every_graph_is_right_and_the_fastest_are_kept(
    artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever wins: each graph in turn is made to."""
    oracle = oracles[artifact.manifest.name]
    call = oracle.random_call(generator, 7, oracle.direct_horizon)
    inputs = {"window": call.windows, **call.context}
    if call.series is not None:
        inputs["series"] = oracle.numbers(call.series)
    for name in artifact.manifest.window_graphs():
        monkeypatch.setattr(plan, "fastest", Mock(return_value=plan.fixed(name)))
        engine, worst = load_engine(artifact, choose_provider("cpu"), LoadOptions(tune=True, largest_batch=8))
        assert worst.within
        assert set(engine.sessions) == {name}
        oracle.assert_right(engine.run(inputs)["next"], oracle.expect(call))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_batch_invariant_answers_have_the_same_bytes_beside_any_others(
    models: Path, oracles: dict[str, Oracle], data: st.DataObject
) -> None:
    """Each of a batch's windows in another place of another batch, with other neighbours."""
    name = data.draw(st.sampled_from(MODELS))
    engine, oracle = _invariant(models, name), oracles[name]
    engine.plan = plan.fixed(data.draw(st.sampled_from(sorted(engine.sessions))))
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    inputs = _inputs(oracle, generator, data.draw(st.integers(1, 70)))
    answers = engine.run(inputs)
    count = len(inputs["window"])
    others = _inputs(oracle, generator, data.draw(st.integers(0, 40)) + count)
    places = np.array(data.draw(st.permutations(range(len(others["window"])))))[:count]
    for tensor, array in inputs.items():
        others[tensor][places] = array
    again = engine.run(others)
    for tensor, answer in answers.items():
        assert again[tensor][places].tobytes() == answer.tobytes()


@functools.cache
def _invariant(models: Path, name: str) -> Engine:
    """With every graph that a plan can choose."""
    artifact = Artifact(models / name / "1")
    entries, cpu = plan.fixed("window"), choose_provider("cpu")
    return Engine(artifact.manifest, _sessions(artifact), cpu, entries, filling=invariant_filling(artifact.manifest))


def _inputs(oracle: Oracle, generator: np.random.Generator, count: int) -> Tensors:
    call = oracle.random_call(generator, count, oracle.direct_horizon)
    numbers = {} if call.series is None else {"series": oracle.numbers(call.series)}
    return {"window": call.windows, **call.context, **numbers}


def test_a_lone_window_runs_beside_a_copy_of_itself(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    engine, _ = load_engine(Artifact(models / "demo" / "1"), choose_provider("cpu"), LoadOptions(batch_invariant=True))
    windows = demo.random_windows(generator, 1)
    (session,) = engine.sessions.values()
    with patch.object(session, "run", wraps=session.run) as run:
        answer = engine.run({"window": windows})["next"]
    np.testing.assert_array_equal(run.call_args.args[0]["window"], np.concatenate((windows, windows)))
    demo.assert_right(answer, demo.predict(windows))


def test_what_depends_on_its_batch_is_refused(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    engine, _ = load_engine(Artifact(models / "demo" / "1"), choose_provider("cpu"))
    (session,) = engine.sessions.values()
    right = session.run

    def run(inputs: Tensors) -> Tensors:
        return {"next": right(inputs)["next"] + np.float32(len(inputs["window"]) > 6)}

    message = r"^window\.onnx: output 'next' is not batch-invariant on CPU.*a batch of 1 "
    with patch.object(session, "run", run), pytest.raises(ArtifactError, match=message):
        check_batch_invariance(engine, {"window": demo.random_windows(generator, 8)})


def test_nodes_that_run_elsewhere_are_named_and_their_graph_is_not_timed(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As onnxruntime does on a GPU with the GRU of the article: it falls back to the CPU without a word."""
    artifact, cpu = Artifact(models / "demo" / "1"), choose_provider("cpu")
    right = Session.nodes_by_provider

    def split(session: Session) -> Counter[str]:
        counts = right(session)
        is_fused = counts[CPU] < 20
        return Counter({"Elsewhere": 2, CPU: counts[CPU] - 2}) if is_fused else counts

    monkeypatch.setattr(Session, "nodes_by_provider", split)
    with caplog.at_level("INFO", "nextvalue.gate"):
        engine, _ = load_engine(artifact, cpu, LoadOptions(tune=True, largest_batch=2))
    assert "not timed: graphs/fused.onnx: 2 nodes on Elsewhere" in caplog.text
    assert "fused" not in engine.sessions
    monkeypatch.setattr("server.gate.plan_for", Mock(return_value=plan.fixed("fused")))
    load_engine(artifact, cpu)
    assert "graphs/fused.onnx: not all of it runs on CPUExecutionProvider: 2 nodes on Elsewhere" in caplog.text


def test_small_batches_share_buffers_and_answers_do_not(
    artifact: Artifact, oracles: dict[str, Oracle], generator: np.random.Generator
) -> None:
    """Two answers of each batch size stay what they were when the next has been computed."""
    oracle = oracles[artifact.manifest.name]
    engine, _ = load_engine(artifact, choose_provider("cpu"))
    sizes = [*range(1, MOST_BOUND + 3)] * 2
    calls = [oracle.random_call(generator, size, oracle.direct_horizon) for size in sizes]
    inputs = []
    for call in calls:
        numbers = {} if call.series is None else {"series": oracle.numbers(call.series)}
        inputs.append({"window": call.windows, **call.context, **numbers})
    answers = [engine.run(each) for each in inputs]
    for call, answer in zip(calls, answers, strict=True):
        oracle.assert_right(answer["next"], oracle.expect(call))


def test_an_input_of_another_type_or_shape_is_not_made_to_fit(
    demo: Oracle, models: Path, generator: np.random.Generator
) -> None:
    engine, _ = load_engine(Artifact(models / "demo" / "1"), choose_provider("cpu"))
    with pytest.raises(ValueError, match=r"window is \[2, 1, 1\]; it must be \[2, 5, 1\]"):
        engine.run({"window": demo.random_windows(generator, 2)[:, :1]})
    with pytest.raises(TypeError, match="Cannot cast"):
        engine.run({"window": demo.random_windows(generator, 2).astype(np.float64)})


def test_what_a_run_took_says_whether_the_next_is_short(
    models: Path, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its number of windows, about; one run that was held up does not make all others long."""
    artifact = Artifact(models / "demo" / "1")
    manifest = artifact.manifest
    session = load_session(manifest, "window", artifact.read("window.onnx"), choose_provider("cpu"))
    engine = Engine(manifest, {"window": session}, choose_provider("cpu"), plan.fixed("window"))
    now = 0.0
    took = 0.0

    def clock() -> float:
        nonlocal now
        now += took
        return now

    def run(num_windows: int, seconds: float) -> bool:
        nonlocal took
        took = seconds
        engine.run({"window": generator.standard_normal((num_windows, manifest.window, 1), np.float32)})
        return engine.is_short("window", num_windows)

    monkeypatch.setattr("server.session.perf_counter", clock)
    assert not engine.is_short("window", 1), "nobody knows yet"
    assert not run(1, 0.01)
    assert run(1, 0.0004)
    assert not run(100, 0.003)
    assert engine.is_short("window", 1)
    assert run(1, 1.0), "held up once"
    assert not run(1, 1.0), "and again"
