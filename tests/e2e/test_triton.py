"""tritonclient works unchanged against a server started as a user would."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

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
    with server_process(models, "--reference", "off") as process:
        process.await_ready()
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.triton_calls", process.target],
            input=buffer.getvalue(),
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    answers = json.loads(done.stdout)
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


def test_our_proto_has_the_protocols_field_numbers(tmp_path: Path) -> None:
    """Messages, fields, types and methods: every one of ours is one of tritonclient's."""
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
    assert int(compared[1]) > 50
