"""tritonclient works unchanged against a server started as a user would."""

import dataclasses
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.e2e.programs import ROOT, answers_of
from tests.server.oracle import Oracle

pytestmark = pytest.mark.e2e


def test_tritonclient(models: Path) -> None:
    oracle = Oracle(models / "demo" / "1")
    windows = oracle.random_windows(np.random.default_rng(5), 3)
    buffer = io.BytesIO()
    np.save(buffer, windows)
    answers = answers_of("tests.e2e.triton_calls", models, buffer.getvalue())
    assert [answers[name] for name in ("live", "ready", "model_ready", "nobody_ready")] == [True, True, True, False]
    assert answers["server"]["name"] == "nextvalue"
    assert answers["model"] == {
        "name": "demo",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "window", "datatype": "FP32", "shape": ["-1", "5", "1"]}],
        "outputs": [{"name": "next", "datatype": "FP32", "shape": ["-1", "1"]}],
    }
    for name, horizon in (("one", 1), ("version", 1), ("five", 5)):
        oracle.assert_right(np.array(answers[name], np.float32), oracle.predict(windows, horizon))
    assert answers["refused"] == (
        "StatusCode.INVALID_ARGUMENT: inputs[window].shape is [3, 3, 1]; the model takes [N, 5, 1]"
    )


def test_integers_and_intervals(models: Path) -> None:
    """INT64 inputs as tritonclient sends them, every output as it reads them."""
    oracle = Oracle(models / "demand" / "1")
    call = oracle.random_call(np.random.default_rng(5), 9, 5)
    assert call.time_seconds is not None
    assert call.series is not None
    assert call.future is not None
    buffer = io.BytesIO()
    np.savez(
        buffer,
        window=call.windows,
        time_seconds=call.time_seconds,
        series=oracle.numbers(call.series),
        future=call.future,
    )
    answers = answers_of("tests.e2e.triton_context", models, buffer.getvalue())
    assert answers["inputs"] == [
        {"name": "window", "datatype": "FP32", "shape": ["-1", "6", "2"]},
        {"name": "time_seconds", "datatype": "INT64", "shape": ["-1", "6"]},
        {"name": "series", "datatype": "INT64", "shape": ["-1", "1"]},
    ]
    assert answers["outputs"] == [
        {"name": "next", "datatype": "FP32", "shape": ["-1", "3"]},
        {"name": "lower", "datatype": "FP32", "shape": ["-1", "3", "2"]},
        {"name": "upper", "datatype": "FP32", "shape": ["-1", "3", "2"]},
    ]
    direct = oracle.expect(dataclasses.replace(call, horizon=3, future=None))
    found = {name: np.array(values, np.float32) for name, values in answers["all"].items()}
    assert list(found) == ["next", "lower", "upper"]
    oracle.assert_right(found["next"], direct)
    oracle.assert_ends_right(found["lower"], found["upper"], direct)
    assert list(answers["upper"]) == ["upper"]
    np.testing.assert_array_equal(np.array(answers["upper"]["upper"], np.float32), found["upper"])
    assert list(answers["five"]) == ["next"]
    oracle.assert_right(np.array(answers["five"]["next"], np.float32), oracle.expect(call))
    assert answers["refused"].startswith("StatusCode.INVALID_ARGUMENT: inputs[series] is missing; the model is scaled")


def test_our_proto_has_the_protocols_field_numbers(tmp_path: Path) -> None:
    """Messages, fields, types, enums and methods: every one of ours is one of tritonclient's."""
    descriptors = tmp_path / "descriptors.bin"
    protoc = ["-m", "grpc_tools.protoc", "-Iproto", f"--descriptor_set_out={descriptors}"]
    subprocess.run([sys.executable, *protoc, "inference/open_inference.proto"], cwd=ROOT, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.triton_fields", str(descriptors)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compared = re.search(r"^(\d+) compared, 0 differ$", done.stdout)
    assert compared, done.stdout
    assert int(compared[1]) > 120


def test_tools(models: Path) -> None:
    """Configuration, statistics, the repository, loading and unloading; what is refused is refused by name."""
    oracle = Oracle(models / "demo" / "1")
    windows = oracle.random_windows(np.random.default_rng(5), 3)
    answers = answers_of("tests.e2e.triton_tools", models, saved(windows), "--admin", "on", "--max-batch-windows", "64")
    expected = oracle.predict(windows, 1)
    assert answers["extensions"] == [
        "model_configuration",
        "model_repository",
        "model_repository(unload_dependents)",
        "parameters",
        "statistics",
    ]
    config = answers["config"]["config"]
    assert (config["name"], config["platform"], config["max_batch_size"]) == ("demo", "onnxruntime_onnx", 64)
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["input"]] == [
        ("window", "TYPE_FP32", ["5", "1"])
    ]
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["output"]] == [
        ("next", "TYPE_FP32", ["1"])
    ]
    assert "dynamic_batching" in config
    assert config["model_transaction_policy"] == {}

    assert answers["id"] == "one"
    oracle.assert_right(np.array(answers["next"], np.float32), expected)
    (before,), (after,) = (answers[when]["model_stats"] for when in ("before", "after"))
    assert "inference_count" not in before
    assert (after["name"], after["version"], after["inference_count"], after["execution_count"]) == (
        "demo", "1", "3", "1",
    )  # fmt: skip
    assert after["inference_stats"]["success"]["count"] == "1"
    # Of the calls that named the model: classes, another output, shared memory.
    assert after["inference_stats"]["fail"]["count"] == "3"
    assert int(after["inference_stats"]["compute_infer"]["ns"]) > 0
    assert [each["batch_size"] for each in after["batch_stats"]] == ["3"]
    assert answers["all"] == ["covariates", "demand", "demo", "last", "windowed"]

    assert answers["classes"].startswith("StatusCode.INVALID_ARGUMENT: outputs[0].parameters[classification] is given")
    assert answers["unknown_output"] == (
        "StatusCode.INVALID_ARGUMENT: outputs[].name is 'elsewhere'; the model's output is 'next'"
    )
    assert answers["shared"].startswith("StatusCode.INVALID_ARGUMENT: inputs[window].parameters[shared_memory_region]")

    def row(state: str, reason: str = "") -> dict[str, str]:
        return {"name": "demo", "version": "1", "state": state} | ({"reason": reason} if reason else {})

    assert row("READY") in answers["index"]
    unloaded = answers["unloaded"]
    assert (unloaded["ready"], unloaded["server_ready"]) == (False, True), "the other models serve"
    assert unloaded["infer"] == (
        "StatusCode.NOT_FOUND: version 1 of model 'demo' is not served: unloaded by an operator"
    )
    assert row("UNAVAILABLE", "unloaded by an operator") in unloaded["index"]
    assert answers["loaded"]["ready"]
    oracle.assert_right(np.array(answers["loaded"]["next"], np.float32), expected)
    assert answers["no_such_folder"].startswith("StatusCode.NOT_FOUND: model is 'nobody'")
    assert answers["own_config"].startswith("StatusCode.INVALID_ARGUMENT: parameters['config'] is given")
    assert answers["trace"].startswith("StatusCode.UNIMPLEMENTED: ")


def test_streams_and_asyncio(models: Path) -> None:
    """Answers in order with their ids, an error in its place, a status for who asks, and nobody hurt by who leaves."""
    oracle = Oracle(models / "demo" / "1")
    windows = oracle.random_windows(np.random.default_rng(5), 5)
    answers = answers_of("tests.e2e.triton_streams", models, saved(windows))
    nobody = "model is 'nobody'; the repository has: covariates, demand, demo, last, windowed"
    assert nobody in answers["stream"].pop(2)
    for k, (request_id, values) in enumerate(answers["stream"]):
        assert request_id == f"r{k}"
        oracle.assert_right(np.array(values, np.float32), oracle.predict(windows[k : k + 1], k + 1))
    assert answers["strict"] == f"StatusCode.NOT_FOUND: {nobody}"
    request_id, values = answers["cancelled"]
    assert request_id == "stays"
    oracle.assert_right(np.array(values, np.float32), oracle.predict(windows, 1))

    found = answers["aio"]
    assert (found["live"], found["ready"], found["refused"]) == (True, [True, True], f"StatusCode.NOT_FOUND: {nobody}")
    assert "inputs[window].shape is [5, 3, 1]" in found["streamed"].pop()
    for kind, letter in (("gathered", "g"), ("streamed", "a")):
        assert [request_id for request_id, _ in found[kind]] == [f"{letter}{k}" for k in range(5)]
        values = np.array([values for _, values in found[kind]], np.float32)[:, 0]
        oracle.assert_right(values, oracle.predict(windows, 1))
    assert found["config"]["config"]["max_batch_size"] == 512
    assert found["metadata"]["name"] == "demo"
    assert int(found["statistics"]["model_stats"][0]["inference_stats"]["success"]["count"]) >= 5 + 1 + 5 + 5
    assert [each["state"] for each in found["index"]["models"]] == ["READY"] * 5


def saved(windows: NDArray[np.float32]) -> bytes:
    """What np.load reads."""
    buffer = io.BytesIO()
    np.save(buffer, windows)
    return buffer.getvalue()
