"""Several values in one run, asked for over the wire: by sliding, which is what happens anyway, or with the state."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from export.artifact.folder import Artifact
from nextvalue.v1 import nextvalue_pb2 as pb
from server.gate import LoadOptions, check_batch_invariance, load_engine
from server.provider import choose_provider
from server.rollout import MOST_SLIDING_WINDOWS, Rollout, rollout_of
from tests.server.harness import Running, infer_outputs, infer_request, predict_request, refusal, serving, to_numpy
from tests.server.oracle import Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")

LENGTH = 6  # of tests.artifacts' demo


def carried(oracle: Oracle, windows_NTF: NDArray[np.float32], horizon: int) -> NDArray[np.float64]:
    """A state that goes on has seen all from the window's start: the window grows instead of sliding."""
    seen = windows_NTF.astype(np.float64)
    for _ in range(horizon):
        seen = np.concatenate((seen, oracle.run({"window": seen})["next"][:, :, None]), axis=1)
    return seen[:, windows_NTF.shape[1] :, 0]


def carry_request(windows: NDArray[np.float32], horizon: int, model: str = "demo") -> pb.PredictRequest:
    request = predict_request(model, windows, horizon=horizon)
    request.rollout = pb.ROLLOUT_CARRY
    return request


@pytest.mark.parametrize("num_windows", [1, 7, 200])
@pytest.mark.parametrize("horizon", [1, 2, LENGTH])
async def test_the_state_goes_on(
    running: Running, demo: Oracle, generator: np.random.Generator, num_windows: int, horizon: int
) -> None:
    windows = demo.random_windows(generator, num_windows)
    expected = carried(demo, windows, horizon)
    reply = await running.next_value.Predict(carry_request(windows, horizon))
    demo.assert_right(to_numpy(reply.predictions), expected)
    request = infer_request("demo", windows, horizon=horizon)
    request.parameters["rollout"].string_param = "carry"
    demo.assert_right(infer_outputs(await running.inference.ModelInfer(request))["next"], expected)
    if horizon > 2:
        assert np.abs(expected - demo.predict(windows, horizon)).max() > 1e-3, "nothing would tell the two apart"


async def test_sliding_is_the_same_with_a_rollout_and_without(
    running: Running, models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    """One run for each of a small call's rollouts, one a value for a large one, and the same numbers."""
    few, many = MOST_SLIDING_WINDOWS, MOST_SLIDING_WINDOWS + 1
    windows = demo.random_windows(generator, many)
    answers = []
    for num_windows, runs in ((few, 2 + 1), (many, 13)):
        before = running.sample("nextvalue_batch_windows_count", model="demo")
        reply = await running.next_value.Predict(predict_request("demo", windows[:num_windows], horizon=13))
        assert running.sample("nextvalue_batch_windows_count", model="demo") == before + runs
        answers.append(to_numpy(reply.predictions))
        demo.assert_right(answers[-1], demo.predict(windows[:num_windows], 13))
    assert set(load_engine(Artifact(models / "demo" / "1"), choose_provider("cpu"))[0].rollouts) == {"sliding", "carry"}


async def test_what_is_refused(running: Running, demo: Oracle, generator: np.random.Generator) -> None:
    windows = demo.random_windows(generator, 1)
    wrong = predict_request("demo", windows, horizon=2)
    wrong.rollout = 7  # type: ignore[assignment]  # a number that this server does not know
    odd, typed = (infer_request("demo", windows, horizon=2) for _ in range(2))
    odd.parameters["rollout"].string_param = "jump"
    typed.parameters["rollout"].int64_param = 2
    last = carry_request(np.ones((1, 6, 1), np.float32), 2, "last")
    refused = [
        (
            running.next_value.Predict(carry_request(windows, 7)),
            "horizon is 7; with rollout 'carry' it must be from",
        ),
        (running.next_value.Predict(last), "rollout is 'carry'; the model has no graph for it"),
        (running.next_value.Predict(wrong), "rollout is 7; it must be from 0 to 2"),
        (running.inference.ModelInfer(odd), "parameters[rollout] is 'jump'; it must be a string_param, one of"),
        (running.inference.ModelInfer(typed), "parameters[rollout] is ''; it must be a string_param, one of"),
    ]
    for call, said in refused:
        found = await refusal(call)
        assert (found.code, said in found.details) == (grpc.StatusCode.INVALID_ARGUMENT, True), found.details


async def test_the_model_says_how_far_it_carries(running: Running) -> None:
    for name, length in (("demo", LENGTH), ("last", 0), ("covariates", 0)):
        model = await running.next_value.GetModel(pb.GetModelRequest(model=name))
        assert model.versions[0].description.carry_horizon == length


async def test_batch_invariant_every_value_has_its_own_run(
    models: Path, demo: Oracle, generator: np.random.Generator
) -> None:
    """Whether a call slides within one graph depends on how many windows it has; carrying does not."""
    engine, _ = load_engine(Artifact(models / "demo" / "1"), choose_provider("cpu"), LoadOptions(batch_invariant=True))
    assert set(engine.rollouts) == {"carry"}
    check_batch_invariance(engine, {"window": demo.random_windows(generator, 33)})
    async with serving(models, batch_invariant="on") as invariant:

        async def bytes_of(request: pb.PredictRequest) -> list[bytes]:
            return [row.tobytes() for row in to_numpy((await invariant.next_value.Predict(request)).predictions)]

        windows = demo.random_windows(generator, 40)
        carried_together = await bytes_of(carry_request(windows, LENGTH))
        slid_together = await bytes_of(predict_request("demo", windows, horizon=4))
        for n in (0, 17, 39):
            alone = windows[n : n + 1]
            assert await bytes_of(carry_request(alone, LENGTH)) == [carried_together[n]]
            assert await bytes_of(predict_request("demo", alone, horizon=4)) == [slid_together[n]]


async def test_bounds_of_a_rollout() -> None:
    assert rollout_of("sliding", 24, max_batch_windows=1024) == Rollout("sliding", 24, MOST_SLIDING_WINDOWS)
    assert rollout_of("sliding", 24, max_batch_windows=8) == Rollout("sliding", 24, 8)
    assert rollout_of("carry", 24, max_batch_windows=1024) == Rollout("carry", 24, 512)
    assert rollout_of("carry", 24, max_batch_windows=1) == Rollout("carry", 24, 1)
