"""tritonclient works unchanged against a server started as a user would."""

import dataclasses
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.server.harness import server_process
from tests.server.oracle import Oracle

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


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


def answers_of(program: str, models: Path, arrays: bytes) -> dict[str, Any]:
    """What a program that calls a server by tritonclient printed."""
    with server_process(models, "--reference", "off") as process:
        process.await_ready()
        done = subprocess.run(
            [sys.executable, "-m", program, process.target], input=arrays, capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


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
