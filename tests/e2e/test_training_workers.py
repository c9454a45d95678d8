"""The PyTorchJob's own command, as its pods would run it: with what the training operator puts into the environment."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.ports import lasting_ports
from tests.server.harness import LIMIT_SECONDS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

JOB = Path(__file__).parents[2] / "deploy" / "kubernetes" / "overlays" / "training-workers" / "pytorchjob.yaml"


def test_three_workers_fit_one_model(tmp_path: Path) -> None:
    roles = yaml.safe_load(JOB.read_text())["spec"]["pytorchReplicaSpecs"]
    count = sum(role["replicas"] for role in roles.values())
    (container,) = roles["Master"]["template"]["spec"]["containers"]
    # Folders that are mounts there, and less to do.
    options = [each.replace("/series/", f"{tmp_path}/").replace("/runs/", f"{tmp_path}/") for each in container["args"]]
    options += ["--hidden", "4", "--epochs", "1", "--quiet"]
    rows = [f"2024-01-{1 + k // 24:02}T{k % 24:02}:00:00Z,{math.sin(k * math.tau / 24):.3f}" for k in range(400)]
    (tmp_path / "series.csv").write_text("\n".join(["time,value", *rows]) + "\n")
    (port,) = lasting_ports(1)
    operator = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", *options],
            env={**os.environ, **operator, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [each.communicate(timeout=2 * LIMIT_SECONDS)[0] for each in workers]
    finally:
        for each in workers:
            each.kill()
    assert [each.returncode for each in workers] == [0] * count, said
    assert count == 3
    assert (tmp_path / "mine" / "weights.safetensors").exists()
