"""Predictions through a real server are the numbers the model's own equations give."""

import numpy as np
import pytest

from export.artifact import golden
from export.artifact.folder import GOLDEN
from tests.server.conftest import MODELS
from tests.server.harness import Running, infer_request, predict_request, to_numpy
from tests.server.oracle import STRANGER, Call, Expected, Oracle

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("name", MODELS)
async def test_golden_inputs_give_golden_outputs(running: Running, oracles: dict[str, Oracle], name: str) -> None:
    oracle = oracles[name]
    case = golden.decode(oracle.artifact.read(GOLDEN), oracle.manifest)["window"]
    ids = [*oracle.ids, STRANGER]
    call = Call(
        windows=case.inputs["window"],
        horizon=oracle.direct_horizon,
        time_seconds=case.inputs.get("time_seconds"),
        series=[ids[number] for number in case.inputs["series"][:, 0]] if oracle.ids else None,
    )
    expected = Expected(case.outputs["next"], None, None, case.outputs.get("unit", np.ones((len(call.windows), 1))))
    oracle.assert_right(await running.predict(name, call.windows, **call.options), expected)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dimensions", [2, 3])
async def test_shapes_and_spellings(
    running: Running, demo: Oracle, generator: np.random.Generator, raw: bool, dimensions: int
) -> None:
    """[N, T] is [N, T, 1]; the answer is spelt as the question was."""
    windows = demo.random_windows(generator, 9)
    sent = windows if dimensions == 3 else windows[:, :, 0]
    reply = await running.next_value.Predict(predict_request("demo", sent, raw=raw))
    demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))
    assert bool(reply.predictions.raw_values) is raw
    assert list(reply.predictions.shape) == [9, 1]
    assert (reply.model, reply.version) == ("demo", 1)
    assert reply.queue_time_ns >= 0
    assert reply.run_time_ns > 0


@pytest.mark.parametrize("horizon", [2, 5, 17])
@pytest.mark.parametrize("name", MODELS)
async def test_a_horizon_slides(
    running: Running, oracles: dict[str, Oracle], generator: np.random.Generator, name: str, horizon: int
) -> None:
    oracle = oracles[name]
    call = oracle.random_call(generator, 6, horizon)
    oracle.assert_right(await running.predict(name, call.windows, **call.options), oracle.expect(call))


async def test_covariates_to_come_matter(running: Running, covariates: Oracle, generator: np.random.Generator) -> None:
    """The first prediction does not see them, the later ones do; each only those before it."""
    windows = covariates.random_windows(generator, 1)
    future = covariates.random_future(generator, 1, 4)
    assert future is not None
    other = future.copy()
    other[:, 1] += 5
    one = await running.predict("covariates", windows, horizon=4, future=future)
    two = await running.predict("covariates", windows, horizon=4, future=other)
    assert (one[:, :2] == two[:, :2]).all()
    assert (one[:, 2:] != two[:, 2:]).all()


async def test_a_call_above_the_largest_batch_is_split(
    running: Running, demo: Oracle, generator: np.random.Generator
) -> None:
    windows = demo.random_windows(generator, 1300)
    runs = running.sample("nextvalue_batch_windows_count", model="demo")
    predictions = running.sample("nextvalue_predictions_total", model="demo", version="1")
    demo.assert_right(await running.predict("demo", windows), demo.predict(windows))
    assert running.sample("nextvalue_batch_windows_count", model="demo") - runs == 3
    assert running.sample("nextvalue_predictions_total", model="demo", version="1") - predictions == 1300


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("horizon", [None, 1, 6])
async def test_model_infer(
    running: Running, demo: Oracle, generator: np.random.Generator, raw: bool, horizon: int | None
) -> None:
    windows = demo.random_windows(generator, 4)
    request = infer_request("demo", windows, raw=raw, horizon=horizon)
    request.id = "a name for it"
    reply = await running.inference.ModelInfer(request)
    (output,) = reply.outputs
    (data,) = reply.raw_output_contents
    assert (reply.model_name, reply.model_version, reply.id) == ("demo", "1", "a name for it")
    assert (output.name, output.datatype, list(output.shape)) == ("next", "FP32", [4, horizon or 1])
    assert not output.HasField("contents")
    demo.assert_right(np.frombuffer(data, "<f4").reshape(4, -1), demo.predict(windows, horizon or 1))


async def test_model_infer_takes_future(running: Running, covariates: Oracle, generator: np.random.Generator) -> None:
    windows = covariates.random_windows(generator, 3)
    future = covariates.random_future(generator, 3, 5)
    assert future is not None
    request = infer_request("covariates", windows, horizon=5)
    request.inputs.add(name="future", datatype="FP32", shape=future.shape)
    request.raw_input_contents.append(future.tobytes())
    reply = await running.inference.ModelInfer(request)
    found = np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(3, 5)
    covariates.assert_right(found, covariates.predict(windows, 5, future))


async def test_the_version_asked_for_by_number(running: Running, demo: Oracle, generator: np.random.Generator) -> None:
    windows = demo.random_windows(generator, 2)
    reply = await running.next_value.Predict(predict_request("demo", windows, version="1"))
    demo.assert_right(to_numpy(reply.predictions), demo.predict(windows))
