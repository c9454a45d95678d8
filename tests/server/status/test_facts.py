"""What several workers have, told as one."""

from server.status.facts import MIXED, Facts, ModelFacts, VersionFacts, merged

SERVING = VersionFacts(number=1, state="serving", cell="gru", nodes={"CPUExecutionProvider": 9})
FAILED = VersionFacts(number=1, state="failed", reason="it is broken")


def facts(*versions: VersionFacts, name: str = "m") -> Facts:
    return Facts(models=[ModelFacts(name=name, default=1, versions=list(versions))])


def test_workers_that_agree_are_one() -> None:
    assert merged([facts(SERVING), facts(SERVING)]) == Facts(
        models=[ModelFacts(name="m", default=1, versions=[SERVING])]
    )
    assert merged([]) == Facts()


def test_workers_that_do_not_agree_say_so() -> None:
    [model] = merged([facts(SERVING), facts(FAILED)]).models
    [version] = model.versions
    assert version.state == MIXED
    assert version.reason == "1 of 2 workers: serving; 1 of 2 workers: failed; it is broken"


def test_a_version_that_one_does_not_have() -> None:
    newer = VersionFacts(number=2, state="standby")
    [model] = merged([facts(SERVING), facts(newer, SERVING)]).models
    assert [version.number for version in model.versions] == [2, 1]
    assert model.versions[0].reason == "1 of 2 workers: standby"


def test_models_are_by_name() -> None:
    both = merged([facts(SERVING, name="b"), facts(SERVING, name="a")])
    assert [model.name for model in both.models] == ["a", "b"]
