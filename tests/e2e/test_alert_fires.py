"""An alert of deploy/ is seen firing in a real Prometheus that watches a real server, and clearing.

The rules are those that clusters get, with every minute made a second (`hastened`), so that 1 m of a damaged version is
waited for in 1 s.
"""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.e2e.prometheus import RULES, hastened, needs_prometheus, prometheus
from tests.server.harness import eventually_sync, server_process

pytestmark = pytest.mark.e2e


def test_what_is_hastened() -> None:
    """Minutes, and nothing else: not names, not thresholds, not words."""
    before = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    after = hastened(yaml.safe_load(RULES.read_text()))["groups"]
    assert len(before) == len(after) == 1
    for old, new in zip(before[0]["rules"], after[0]["rules"], strict=True):
        assert {**new, "expr": None, "for": None} == {**old, "expr": None, "for": None}
        for key in old.keys() & {"expr", "for"}:
            assert re.sub(r"(\d)s", r"\1m", new[key]) == old[key]
    errors = after[0]["rules"][0]
    assert (errors["alert"], errors["for"]) == ("NextvalueErrors", "5s")
    assert errors["expr"].count("[5s]") == 2


@needs_prometheus
def test_a_damaged_version_alerts_until_it_is_gone(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "demo", folder / "demo")
    with ExitStack() as stack:
        server = stack.enter_context(server_process(folder, "--reference", "off", "--poll-seconds", "0.2"))
        server.await_ready()
        rules = hastened(yaml.safe_load(RULES.read_text()))
        watching = stack.enter_context(prometheus([server.metrics_port], tmp_path, rules))
        watching.await_scrapes(1)
        assert watching.alerts() == {}

        damaged = folder / "demo" / "2"
        shutil.copytree(folder / "demo" / "1", damaged)
        graph = damaged / "window.onnx"
        graph.write_bytes(graph.read_bytes()[:-1])
        eventually_sync(
            lambda: watching.alerts() == {"NextvalueModelQuarantined": "firing"}, "the alert of a damaged version"
        )
        (alert,) = watching.ask("alerts")["alerts"]
        assert alert["labels"]["severity"] == "warning"
        assert alert["annotations"]["summary"] == "demo: 1 version(s) failed their gate and are not served"

        shutil.rmtree(damaged)
        eventually_sync(lambda: watching.alerts() == {}, "the alert to clear")
