"""Graphs that compute in float16: held to their own row wherever something is compared, and never chosen on a CPU."""

from pathlib import Path
from unittest.mock import Mock

import msgspec
import numpy as np
import pytest

from export.artifact import golden, plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.limits import HALF, deviation
from export.artifact.manifest import PlanEntry
from server.gate import LoadOptions, load_engine
from server.provider import CUDA, choose_provider
from server.session import Session
from server.tensors import Tensors
from tests.server.conftest import MODELS
from tests.server.harness import predict_request, serving
from tests.server.oracle import Oracle
from tests.server.test_provider import needs_cuda


@pytest.fixture(params=MODELS)
def artifact(request: pytest.FixtureRequest, half_models: Path) -> Artifact:
    return Artifact(half_models / request.param / "1")


def test_no_plan_of_a_cpu_has_it(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    assert artifact.manifest.graphs["half"].precision == "float16"
    fastest = Mock(return_value=plan.fixed("window"))
    monkeypatch.setattr(plan, "fastest", fastest)
    load_engine(artifact, choose_provider("cpu"), LoadOptions(tune=True, largest_batch=2))
    timed = fastest.call_args.args[1]
    assert "window" in timed
    assert "half" not in timed


def test_where_a_plan_has_it_the_load_gate_holds_it_to_its_row(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gate.plan_for", Mock(return_value=plan.fixed("half")))
    engine, worst = load_engine(artifact, choose_provider("cpu"))
    assert set(engine.sessions) == {"half"}
    assert worst.within
    as_float32 = {"half": msgspec.structs.replace(artifact.manifest.graphs["half"], precision="float32")}
    manifest = msgspec.structs.replace(artifact.manifest, graphs={**artifact.manifest.graphs, **as_float32})
    cases = {"half": golden.decode(artifact.read(GOLDEN), artifact.manifest)["half"]}
    with pytest.raises(ArtifactError, match=r"half graph \(graphs/half\.onnx\), output .* times the limit"):
        golden.replay(manifest, cases, lambda _, inputs: engine.run(inputs))


def test_a_float16_graph_that_is_wrong_is_not_served(
    half_models: Path, demo: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.gate.plan_for", Mock(return_value=plan.fixed("half")))
    monkeypatch.setattr("server.gate.ROLLOUTS", ())
    right = Session.run
    off = np.float32(2 * HALF.relative_to_scale * demo.manifest.transform.scale)

    def wrong(session: Session, inputs: Tensors) -> Tensors:
        return {name: array + off for name, array in right(session, inputs).items()}

    monkeypatch.setattr(Session, "run", wrong)
    with pytest.raises(ArtifactError, match=r"half graph .* times the limit"):
        load_engine(Artifact(half_models / "demo" / "1"), choose_provider("cpu"))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_on_cuda_it_runs_whole_and_within_its_row(
    artifact: Artifact,
    oracles: dict[str, Oracle],
    generator: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    cuda_graphs: bool,
) -> None:
    monkeypatch.setattr("server.gate.plan_for", Mock(return_value=plan.fixed("half")))
    engine, worst = load_engine(artifact, choose_provider("cuda"), LoadOptions(cuda_graphs=cuda_graphs))
    assert set(engine.nodes_by_provider()) == {CUDA}
    assert not engine.nodes_elsewhere()
    assert worst.within
    oracle = oracles[artifact.manifest.name]
    for count in (1, 3, 7, 64):
        call = oracle.random_call(generator, count, oracle.direct_horizon)
        numbers = {} if call.series is None else {"series": oracle.numbers(call.series)}
        found = engine.run({"window": call.windows, **call.context, **numbers})["next"]
        expected = oracle.expect(call)
        scale = artifact.manifest.transform.scale * expected.unit
        assert deviation(found, expected.next, scale, HALF).within


async def test_the_live_gate_hears_which_graph_ran(
    half_models: Path, demo: Oracle, generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of windows in the run, as the plan chose."""
    entries = [PlanEntry(max_batch=2, graph="half"), PlanEntry(max_batch=None, graph="window")]
    monkeypatch.setattr("server.gate.plan_for", Mock(return_value=entries))
    offer = Mock()
    monkeypatch.setattr("server.parity.monitor.ParityMonitor.offer", offer)
    options = {"reference": "unix:/nowhere", "parity_share": "1"}
    async with serving(half_models, **options) as running:
        for count in (1, 3, 2):
            await running.next_value.Predict(predict_request("demo", demo.random_windows(generator, count)))
    assert [call.kwargs["graph"] for call in offer.call_args_list] == ["half", "window", "half"]
