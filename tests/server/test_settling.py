"""When what is seen counts: looks are counted, nothing else."""

from collections.abc import Collection, Mapping

from server.folders import ModelFolder, VersionFolder
from server.settling import PATIENCE_LOOKS, Settling

GOOD = VersionFolder((100, 1), {"manifest.json": (100, 1)}, whole=True)
EMPTY = VersionFolder(None, {})
PART = VersionFolder((100, 1), {"manifest.json": (100, 1)})


def model(labels: Mapping[str, int] | None = None, **versions: VersionFolder) -> ModelFolder:
    """`v1=…` is version 1."""
    return ModelFolder({int(name[1:]): folder for name, folder in versions.items()}, labels or {})


class Looks:
    """Look after look, as the watcher does it: what counts is what is known at the next."""

    def __init__(self, serving: Collection[str] = ("m",), **known: ModelFolder) -> None:
        self.settling = Settling()
        self.known: dict[str, ModelFolder] = known
        self.serving = serving

    def see(self, **seen: ModelFolder | None) -> dict[str, ModelFolder]:
        serving = [name for name in self.serving if name in self.known]
        self.known = self.settling.settle(seen, self.known, serving)
        return self.known

    def versions(self, **seen: ModelFolder | None) -> list[int]:
        return list(self.see(**seen)["m"].versions)


def test_a_whole_version_counts_at_once() -> None:
    looks = Looks(m=model(v1=GOOD))
    assert looks.versions(m=model(v1=GOOD, v2=GOOD)) == [2, 1]


def test_what_is_known_stays_the_same_object() -> None:
    """Which is how a change by somebody else is noticed."""
    closely, stamp = GOOD, VersionFolder(GOOD.manifest)
    looks = Looks(m=model(v1=closely))
    assert looks.see(m=model(v1=stamp))["m"].versions[1] is closely


def test_without_a_manifest_nothing_counts_ever() -> None:
    looks = Looks(m=model(v1=GOOD))
    for _ in range(3 * PATIENCE_LOOKS):
        assert looks.versions(m=model(v1=GOOD, v2=EMPTY)) == [1]
    assert looks.versions(m=model(v1=GOOD, v2=GOOD)) == [2, 1]


def test_half_a_version_counts_when_it_has_stopped_growing() -> None:
    """The gate then says what is missing."""
    looks = Looks(m=model(v1=GOOD))
    for size in range(2 * PATIENCE_LOOKS):
        growing = VersionFolder((100, 1), {"manifest.json": (100, 1), "window.onnx": (size, 1)})
        assert looks.versions(m=model(v1=GOOD, v2=growing)) == [1]
    for _ in range(PATIENCE_LOOKS - 2):
        assert looks.versions(m=model(v1=GOOD, v2=growing)) == [1]
    assert looks.versions(m=model(v1=GOOD, v2=growing)) == [2, 1]


def test_a_known_version_that_is_being_rewritten_counts_as_it_was() -> None:
    looks = Looks(m=model(v1=GOOD))
    other = VersionFolder((100, 2), {"manifest.json": (100, 2)})
    for _ in range(PATIENCE_LOOKS - 1):
        assert looks.see(m=model(v1=other))["m"].versions[1] is GOOD
    assert looks.see(m=model(v1=other))["m"].versions[1] is other


def test_a_failed_version_that_was_put_right_counts_anew() -> None:
    looks = Looks(m=model(v1=PART))
    right = VersionFolder((100, 1), {"manifest.json": (100, 1), "window.onnx": (9, 1)}, whole=True)
    assert looks.see(m=model(v1=right))["m"].versions[1] is right


def test_a_version_is_gone_when_it_stays_away() -> None:
    looks = Looks(m=model(v1=GOOD, v2=GOOD))
    away, there = model(v1=GOOD), model(v1=GOOD, v2=GOOD)
    for _ in range(PATIENCE_LOOKS - 1):
        assert looks.versions(m=away) == [2, 1]
    assert looks.versions(m=there) == [2, 1]
    for _ in range(PATIENCE_LOOKS - 1):
        assert looks.versions(m=away) == [2, 1], "counted from the start"
    assert looks.versions(m=away) == [1]


def test_labels_are_gone_when_they_stay_away() -> None:
    """Editors remove a file and write it anew."""
    looks = Looks(m=model({"default": 1}, v1=GOOD))
    for _ in range(PATIENCE_LOOKS - 1):
        assert looks.see(m=model(v1=GOOD))["m"].labels == {"default": 1}
    assert looks.see(m=model({"default": 2}, v1=GOOD))["m"].labels == {"default": 2}
    for _ in range(PATIENCE_LOOKS):
        last = looks.see(m=model(v1=GOOD))["m"].labels
    assert last == {}


def test_labels_that_cannot_be_read_stay_as_they_were() -> None:
    looks = Looks(m=model({"default": 1}, v1=GOOD))
    for _ in range(2 * PATIENCE_LOOKS):
        assert looks.see(m=ModelFolder({1: GOOD}, {}, readable_labels=False))["m"].labels == {"default": 1}


def test_a_model_is_gone_when_it_stays_away() -> None:
    looks = Looks(m=model(v1=GOOD), n=model(v1=GOOD), serving=("m", "n"))
    for _ in range(PATIENCE_LOOKS - 1):
        assert set(looks.see(n=model(v1=GOOD))) == {"m", "n"}
    assert set(looks.see(n=model(v1=GOOD))) == {"n"}


def test_a_model_that_cannot_be_read_stays() -> None:
    looks = Looks(m=model(v1=GOOD), n=model(v1=GOOD), serving=("m", "n"))
    for _ in range(2 * PATIENCE_LOOKS):
        assert set(looks.see(m=None, n=model(v1=GOOD), new=None)) == {"m", "n"}


def test_an_empty_folder_is_no_model_yet() -> None:
    looks = Looks(m=model(v1=GOOD))
    assert set(looks.see(m=model(v1=GOOD), new=model())) == {"m"}
    assert set(looks.see(m=model(v1=GOOD), new=model(v1=EMPTY))) == {"m"}
    assert set(looks.see(m=model(v1=GOOD), new=model(v1=GOOD))) == {"m", "new"}


def test_all_that_serves_is_never_gone() -> None:
    """An empty mount point."""
    looks = Looks(m=model(v1=GOOD), n=model(v1=GOOD), bad=model(v1=PART), serving=("m", "n"))
    for _ in range(2 * PATIENCE_LOOKS):
        assert set(looks.see()) == {"m", "n", "bad"}
    assert looks.settling.withholds


def test_what_comes_back_first_does_not_make_the_others_gone() -> None:
    looks = Looks(m=model(v1=GOOD), n=model(v1=GOOD), serving=("m", "n"))
    for _ in range(PATIENCE_LOOKS + 1):
        looks.see()
    for _ in range(PATIENCE_LOOKS):
        assert set(looks.see(m=model(v1=GOOD))) == {"m", "n"}
    assert set(looks.see(m=model(v1=GOOD))) == {"m"}
    assert not looks.settling.withholds


def test_a_model_that_serves_nothing_may_go() -> None:
    looks = Looks(bad=model(v1=PART), serving=())
    for _ in range(PATIENCE_LOOKS):
        settled = looks.see()
    assert settled == {}
