"""deploy/envoy/envoy.yaml is what Envoy takes; only ports differ in what the tests run."""

from pathlib import Path

import pytest
import yaml

from tests.e2e.envoy import CONFIG, needs_envoy, rewritten, validated

pytestmark = [pytest.mark.e2e, needs_envoy]

SERVERS = [(4001, 4101), (4002, 4102), (4003, 4103)]


def test_the_file_is_valid() -> None:
    done = validated(CONFIG)
    assert done.returncode == 0, done.stderr
    assert f"configuration '{CONFIG}' OK" in done.stdout + done.stderr


def test_a_slip_of_the_pen_is_found(tmp_path: Path) -> None:
    text = CONFIG.read_text()
    assert "lb_policy:" in text
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("lb_policy:", "lb_polcy:"))
    done = validated(wrong)
    assert done.returncode != 0
    assert "lb_polcy" in done.stderr


def test_nothing_but_ports_is_rewritten(tmp_path: Path) -> None:
    config = yaml.safe_load(CONFIG.read_text())
    moved = rewritten(config, 4200, 4201, SERVERS)
    back = rewritten(moved, 9901, 50050, [(50051, 50151), (50052, 50152), (50053, 50153)])
    assert back == config
    assert [line for line in yaml.safe_dump(moved).splitlines() if line not in yaml.safe_dump(config).splitlines()] == [
        line
        for line in yaml.safe_dump(moved).splitlines()
        if "port_value" in line and line not in yaml.safe_dump(config).splitlines()
    ]
    file = tmp_path / "moved.yaml"
    file.write_text(yaml.safe_dump(moved))
    assert validated(file).returncode == 0
