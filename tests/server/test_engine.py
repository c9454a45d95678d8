"""An artifact's graphs in onnxruntime."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest

from export.artifact import plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import Artifact
from export.artifact.manifest import PlanEntry
from server.engine import Engine, Session, plan_for
from server.gate import load_engine
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
        Engine(manifest, {"window": b"not a graph"}, choose_provider("cpu"))


def test_a_session_names_its_outputs(models: Path, demo: Oracle, generator: np.random.Generator) -> None:
    session = Session((models / "demo" / "1" / "window.onnx").read_bytes(), choose_provider("cpu"))
    windows = demo.random_windows(generator, 3)
    outputs = session.run({"window": windows})
    assert set(outputs) == {"next"}
    demo.assert_right(outputs["next"], demo.next(windows))


def test_the_plan_chooses_by_the_number_of_windows(artifact: Artifact) -> None:
    cpu = choose_provider("cpu")
    names = artifact.manifest.window_graphs()
    engine = Engine(
        artifact.manifest, {name: artifact.read(artifact.manifest.graphs[name].file) for name in names}, cpu
    )
    runs: list[str] = []

    def noted(name: str) -> Callable[[Tensors], Tensors]:
        def run(_: Tensors) -> Tensors:
            runs.append(name)
            return {}

        return run

    for name, session in engine.sessions.items():
        session.run = noted(name)  # type: ignore[method-assign,assignment]
    engine.plan = [PlanEntry(max_batch=8, graph=names[-1]), PlanEntry(max_batch=None, graph=names[0])]
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
        engine, worst = load_engine(artifact, choose_provider("cpu"), tune=True, largest=8)
        assert worst.within
        assert set(engine.sessions) == {name}
        oracle.assert_right(engine.run(inputs)["next"], oracle.expect(call))
