"""What is told of a repository."""

from pathlib import Path

from server.status.describe import MOST_REASON_CHARACTERS, describe
from server.versions import State, Version
from tests.server.harness import serving


async def test_what_serves_and_what_does_not(models: Path) -> None:
    async with serving(models) as running:
        repository = running.server.repository
        model = repository.model("demo")
        bad = Version("demo", 9, State.FAILED, "x" * 1000)
        leaving = Version("demo", 8, State.UNLOADING, "unloaded by an operator")
        model.versions[:0] = [bad, leaving]
        model.labels = {"stable": 1}
        facts = describe(repository)
        del model.versions[:2]
    assert [each.name for each in facts.models] == ["covariates", "demand", "demo", "last", "windowed"]
    assert facts.num_left_out == 0
    demo = facts.models[2]
    assert demo.default == 1
    failed, standby, first = demo.versions
    assert (failed.state, len(failed.reason)) == ("failed", MOST_REASON_CHARACTERS)
    assert (standby.state, standby.reason) == ("standby", "unloaded by an operator")
    assert (first.state, first.reason, first.labels, first.cell) == ("serving", "", ["stable"], "lstm")
    assert first.provider == "CPUExecutionProvider"
    assert first.nodes["CPUExecutionProvider"] > 100


async def test_more_than_anybody_reads(models: Path) -> None:
    async with serving(models) as running:
        facts = describe(running.server.repository, most_versions=2)
    assert [each.name for each in facts.models] == ["covariates", "demand"]
    assert facts.num_left_out == 3
