"""`pip install '.[serve]'` alone is a server: nothing of torch, training or development is needed."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.repository import shared_models

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with the serve extra, away from the source tree."""
    venv = tmp_path_factory.mktemp("serve") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", ".[serve]"]
    done = subprocess.run(install, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def test_torch_is_not_installed(python: Path) -> None:
    """The point of the extra."""
    code = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'safetensors') if u.find_spec(n)])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, cwd=python.parent)
    assert done.stdout.strip() == "[]"


def test_the_server_starts_and_serves(python: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Started from an empty folder, so that only what was installed can be imported."""
    log_path = tmp_path / "server.log"
    models = shared_models(tmp_path_factory)
    with np.load(models / "demo" / "1" / "golden.npz", allow_pickle=False) as archive:
        golden = dict(archive)
    expected = float(golden["window/next"][0, 0])
    command = ["-m", "server", "--models", str(models)]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(python), *command, "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"], cwd=tmp_path, stderr=log
        )
    try:
        give_up = time.monotonic() + START_SECONDS
        while "nextvalue ready" not in log_path.read_text():
            assert time.monotonic() < give_up, log_path.read_text()
            assert process.poll() is None, log_path.read_text()
            time.sleep(0.05)
        found = re.search(r"grpc=(\S+)", log_path.read_text())
        assert found
        window = ",".join(str(value) for value in golden["window/window"][0, :, 0])
        predict = ["-m", "nextvalue", "predict", "--target", found[1], "--model", "demo", "--window", window]
        done = subprocess.run([str(python), *predict], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert float(done.stdout) == pytest.approx(expected, rel=1e-4)
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0
