"""manifest.json: what was written is read back; anything else is ArtifactError and nothing but ArtifactError."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from export.artifact.errors import ArtifactError
from export.artifact.limits import HALF, Tolerance
from export.artifact.manifest import MANIFEST, File, Manifest, PlanEntry, decode, digest, encode, is_model_name
from tests.export.artifact import samples

VALID = samples.sealed()
FIELDS = json.loads(VALID)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value inside a JSON document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _paths(inner, (*path, key))
    return found


PATHS = _paths(FIELDS)


def _with(path: tuple[str | int, ...], change: Any) -> bytes:
    """The valid manifest with `change` applied to the container and key at the end of `path`."""
    fields: Any = json.loads(VALID)
    container = fields
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return json.dumps(fields, sort_keys=True, indent=2).encode() + b"\n"


def _reseal(data: bytes) -> bytes:
    """Give altered bytes the digest they should state, if they are a manifest at all."""
    try:
        return encode(msgspec.json.decode(data, type=Manifest))
    except (msgspec.MsgspecError, ValueError):
        return data


def _decode_or_refuse(data: bytes) -> Manifest | None:
    try:
        manifest = decode(data)
    except ArtifactError as error:
        message = str(error)
    else:
        assert isinstance(manifest, Manifest)
        return manifest
    assert message.startswith(f"{MANIFEST}: ")
    return None


def test_round_trip() -> None:
    manifest = decode(VALID)
    assert encode(manifest) == VALID
    assert manifest == msgspec.structs.replace(
        samples.MANIFEST, files=samples.digests(samples.files()), sha256=digest(manifest)
    )


def _resealed(fields: dict[str, Any]) -> bytes:
    """As somebody would who has nothing but a JSON library."""
    others = {name: value for name, value in fields.items() if name != "sha256"}
    canonical = json.dumps(others, sort_keys=True, separators=(",", ":")).encode()
    sealed = others | {"sha256": hashlib.sha256(canonical).hexdigest()}
    return json.dumps(sealed, sort_keys=True, indent=2).encode() + b"\n"


def test_a_manifest_from_before_a_field_came_to_be_is_read() -> None:
    later = {"transition_depth", "linear_skip", "calendar", "scaling", "intervals", "rollout", "plan_provider"}
    assert later <= set(FIELDS)
    old = decode(_resealed({name: value for name, value in FIELDS.items() if name not in later}))
    assert (old.rollout, old.linear_skip, old.calendar) == (0, False, [])
    assert msgspec.structs.replace(old, sha256="") == msgspec.structs.replace(decode(VALID), sha256="")


def _with_half(**tolerance: float) -> Manifest:
    window = samples.MANIFEST.graphs["window"]
    half = msgspec.structs.replace(window, lowering="half", precision="float16")
    return msgspec.structs.replace(
        samples.MANIFEST, graphs={**samples.MANIFEST.graphs, "half": half}, tolerance=Tolerance(**tolerance)
    )


def test_manifests_from_before_there_was_a_precision_keep_their_bytes() -> None:
    """Otherwise their digest would not hold, and they would pass for altered."""
    assert all("precision" not in graph for graph in FIELDS["graphs"].values())
    assert {graph.precision for graph in decode(VALID).graphs.values()} == {"float32"}
    written = json.loads(encode(_with_half()))
    assert [name for name, graph in written["graphs"].items() if "precision" in graph] == ["half"]


def test_a_float16_graph_has_the_table_s_row_whatever_the_artifact_carries() -> None:
    manifest = _with_half(relative_to_scale=1e-6)
    assert manifest.tolerance_of("half") == HALF
    assert manifest.tolerance_of("window") == Tolerance(relative_to_scale=1e-6)


def test_float16_is_no_candidate_on_a_cpu() -> None:
    assert _with_half().candidates(on_cpu=False) == ["window", "half"]
    assert _with_half().candidates(on_cpu=True) == ["window"]


def test_digest_is_of_the_canonical_json_without_itself() -> None:
    """Someone with nothing but a JSON library can check it."""
    fields = {name: value for name, value in FIELDS.items() if name != "sha256"}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    assert FIELDS["sha256"] == hashlib.sha256(canonical).hexdigest()


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe{}")
@example(b"null")
@example(b"[" * 100_000)
@example(b'{"version": ' + b"9" * 5000 + b"}")
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    assert _decode_or_refuse(data) is None


@given(st.sampled_from(PATHS), json_values)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_is_refused_without_the_right_digest(path: tuple[str | int, ...], value: object) -> None:
    altered = _with(path, lambda container, key: container.__setitem__(key, value))
    if altered == VALID:
        return
    assert _decode_or_refuse(altered) is None


@given(st.sampled_from(PATHS), json_values)
@settings(max_examples=300, deadline=None)
def test_any_value_anywhere_gives_a_manifest_or_artifact_error(path: tuple[str | int, ...], value: object) -> None:
    """Past the digest: an author who seals nonsense is told so, and what is accepted is written back as it was."""
    data = _reseal(_with(path, lambda container, key: container.__setitem__(key, value)))
    manifest = _decode_or_refuse(data)
    if manifest is not None:
        assert encode(manifest) == data


@pytest.mark.parametrize("path", [path for path in PATHS if isinstance(path[-1], str)], ids=str)
def test_a_missing_field_gives_a_manifest_or_artifact_error(path: tuple[str | int, ...]) -> None:
    def remove(container: dict[str, object], key: str) -> None:
        del container[key]

    assert _decode_or_refuse(_with(path, remove)) is None
    _decode_or_refuse(_reseal(_with(path, remove)))


def test_every_flipped_bit_is_refused() -> None:
    for offset in range(len(VALID)):
        for bit in range(8):
            flipped = bytearray(VALID)
            flipped[offset] ^= 1 << bit
            assert _decode_or_refuse(bytes(flipped)) is None, f"bit {bit} of byte {offset}"


def test_every_truncation_is_refused() -> None:
    for length in range(len(VALID)):
        assert _decode_or_refuse(VALID[:length]) is None, f"{length} bytes"


@pytest.mark.parametrize("extra", [b"\n", b" ", b"\0", b"{}"])
def test_added_bytes_are_refused(extra: bytes) -> None:
    assert _decode_or_refuse(VALID + extra) is None
    assert _decode_or_refuse(extra + VALID) is None


def test_deep_nesting_is_no_crash() -> None:
    """Reading stops at one depth, writing back at another, and both depend on how deep the caller is."""
    for depth in (10, 100, *range(800, 1001, 4), 2000):
        nested = b"[" * depth + b"]" * depth
        _decode_or_refuse(VALID.replace(b'"fitted_on": {', b'"fitted_on": {"deep": ' + nested + b",", 1))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "..", ".", "", "a/../b", "a/b/c", "graphs/", ".hidden", "a\\b\0", "a\n", "graphs/x\n", "é"],
)
def test_file_names_that_lead_out_of_the_folder_are_refused(name: str) -> None:
    stated = {**samples.digests(samples.files()), name: File(sha256="0" * 64, size=1)}
    with pytest.raises(ArtifactError, match=r"manifest\.json: .*files"):
        decode(samples.sealed(files=stated))
    graph = msgspec.structs.replace(samples.MANIFEST.graphs["window"], file=name)
    with pytest.raises(ArtifactError, match=r"manifest\.json: .*file"):
        decode(samples.sealed(graphs={**samples.MANIFEST.graphs, "window": graph}))


_ROLLS = {**samples.MANIFEST.graphs, "carry": samples.MANIFEST.graphs["window"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"name": "../demo"}, "name"),
        ({"name": "demo\n"}, "name"),
        ({"version": 0}, "version"),
        ({"version": 2**63}, "version"),
        ({"features": []}, "features"),
        ({"graphs": {"step": samples.MANIFEST.graphs["step"]}}, "graphs has no 'window'"),
        ({"plan": []}, "plan"),
        ({"plan": [PlanEntry(max_batch=None, graph="fused")]}, "plan names graph 'fused'"),
        ({"plan": [PlanEntry(max_batch=8, graph="window")]}, "last entry of plan"),
        ({"plan": [PlanEntry(max_batch=None, graph="step")]}, "plan names the step graph"),
        ({"plan": [PlanEntry(max_batch=bound, graph="window") for bound in (8, 8, None)]}, "they must grow"),
        ({"plan": [PlanEntry(max_batch=bound, graph="window") for bound in (None, None)]}, "only the last may be null"),
        ({"not_steppable": "because"}, "either graphs has a step graph or not_steppable"),
        ({"graphs": {"window": samples.MANIFEST.graphs["window"]}}, "either graphs has a step graph or not_steppable"),
        ({"graphs": _ROLLS}, "graphs has 'carry', but rollout is 0 and direct_horizon 1"),
        ({"graphs": _ROLLS, "rollout": 4, "direct_horizon": 2}, "but rollout is 4 and direct_horizon 2"),
        (
            {"graphs": _ROLLS, "rollout": 4, "plan": [PlanEntry(max_batch=None, graph="carry")]},
            "plan names the carry graph, which is no window graph",
        ),
        ({"files": {}}, "which is not in files"),
        ({"files": {**samples.digests(samples.files()), MANIFEST: File(sha256="0" * 64, size=1)}}, "lists itself"),
        ({"files": {"a": File(sha256="0" * 64 + "\n", size=1)}}, "sha256"),
        ({"transform": msgspec.structs.replace(samples.MANIFEST.transform, scale=0.0)}, "scale"),
    ],
)
def test_sealed_nonsense_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        decode(samples.sealed(**changes))


def test_unknown_field_is_refused_by_name() -> None:
    data = VALID.replace(b'"version": 3', b'"versoin": 1,\n  "version": 3', 1)
    with pytest.raises(ArtifactError, match="versoin"):
        decode(data)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("demo", True),
        ("9.a_b-c", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        (".demo", False),
        ("-demo", False),
        ("..", False),
        ("a/b", False),
        ("demo\n", False),
        ("dé", False),
    ],
)
def test_model_names(name: str, *, valid: bool) -> None:
    assert is_model_name(name) is valid
