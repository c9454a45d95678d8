"""Who may do what, from a text: no file, no clock, no socket."""

import json
from contextlib import suppress
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.doors.access import PREFIX_BYTES, Access, BadAccess, Grant
from server.errors import NotAllowed, Unauthenticated
from tests.certificates import token_entry


def access(*tokens: dict[str, Any], certificates: list[dict[str, Any]] | None = None) -> Access:
    return Access.parse(json.dumps({"tokens": tokens, "certificates": certificates or []}).encode())


def test_a_token_is_known_by_its_digest() -> None:
    found = access(token_entry("first", name="a", models=["demo"]), token_entry("second", name="b", admin=True))
    assert found.by_token("first", now=0) == Grant(name="a", models=frozenset({"demo"}), admin=False)
    assert found.by_token("second", now=0) == Grant(name="b", models=None, admin=True)
    for other in ("", "firs", "first ", "First", "second\x00", "\udce4", token_entry("first")["sha256"]):
        with pytest.raises(Unauthenticated, match="nobody has this token"):
            found.by_token(other, now=0)


def test_a_token_expires_at_its_time_and_not_before() -> None:
    found = access(token_entry("t", expires="1970-01-01T00:01:40Z"))
    assert found.by_token("t", now=99.999).expires == 100
    with pytest.raises(Unauthenticated, match="expired"):
        found.by_token("t", now=100)


def test_digests_that_begin_alike_are_told_apart() -> None:
    """By the last byte: what is found by its beginning is compared whole."""
    digest = sha256(b"t").digest()
    near = digest[:-1] + bytes((digest[-1] ^ 1,))
    near_grant, grant = (Grant(name=name, models=None, admin=False) for name in ("near", "right"))
    assert near[:PREFIX_BYTES] == digest[:PREFIX_BYTES]
    assert Access({near: near_grant, digest: grant}, {}).by_token("t", now=0) is grant
    with pytest.raises(Unauthenticated):
        Access({near: near_grant}, {}).by_token("t", now=0)


def test_a_certificate_is_known_by_any_of_its_names() -> None:
    found = access(certificates=[{"name": "spiffe://a/b", "models": ["demo"]}, {"name": "c", "models": "*"}])
    assert found.by_certificate(("127.0.0.1", "spiffe://a/b", "c")).name == "spiffe://a/b"
    assert (found.knows_tokens, found.knows_certificates) == (False, True)
    for names in ((), ("spiffe://a",), ("*",)):
        with pytest.raises(Unauthenticated):
            found.by_certificate(names)


def test_models_and_admin() -> None:
    limited = Grant(name="a", models=frozenset({"demo"}), admin=False)
    limited.check_model("demo")
    for model in ("", "Demo", "demo2", "*"):
        with pytest.raises(NotAllowed):
            limited.check_model(model)
    with pytest.raises(NotAllowed, match="RepositoryModelLoad"):
        limited.check_admin("RepositoryModelLoad")
    everything = access(token_entry("t", models=["*"], admin=True)).by_token("t", now=0)
    everything.check_model("anything")
    everything.check_admin("RepositoryModelLoad")


SECRET = "the-token-itself"  # noqa: S105 (of nobody)
GOOD = token_entry("t")
BAD: dict[str, tuple[object, str]] = {
    "no JSON": ("", ""),
    "cut off": ('{"tokens": [', ""),
    "no object": ([], "object"),
    "another field": ({"token": [GOOD]}, "unknown field"),
    "the token where its digest should be": ({"tokens": [GOOD | {"sha256": SECRET}]}, "tokens[0].sha256"),
    "a digest in capitals": ({"tokens": [GOOD | {"sha256": GOOD["sha256"].upper()}]}, "tokens[0].sha256"),
    "a line behind the digest": ({"tokens": [GOOD | {"sha256": GOOD["sha256"] + "\n"}]}, "tokens[0].sha256"),
    "the token in a field of its own": ({"tokens": [GOOD | {"token": SECRET}]}, "token"),
    "the token as a field's name": ({"tokens": [GOOD | {SECRET: 1}]}, "tokens[0]"),
    "no digest": ({"tokens": [{"name": "a", "models": "*"}]}, "sha256"),
    "no models": ({"tokens": [{"name": "a", "sha256": GOOD["sha256"]}]}, "models"),
    "models as a text": ({"tokens": [GOOD | {"models": SECRET}]}, "models"),
    "a pattern": ({"tokens": [GOOD | {"models": ["de*"]}]}, "tokens[0].models"),
    "no name": ({"tokens": [GOOD | {"name": ""}]}, "tokens[0].name"),
    "admin as a text": ({"tokens": [GOOD | {"admin": "false"}]}, "admin"),
    "a time without a zone": ({"tokens": [GOOD | {"expires": "2027-01-01T00:00:00"}]}, "tokens[0].expires"),
    "a time elsewhere": ({"tokens": [GOOD | {"expires": "2027-01-01T00:00:00+01:00"}]}, "tokens[0].expires"),
    "no time": ({"tokens": [GOOD | {"expires": "tomorrow"}]}, "expires"),
    "twice": ({"tokens": [GOOD, GOOD]}, "tokens[1].sha256"),
    "a name twice": ({"certificates": [{"name": "a", "models": "*"}] * 2}, "certificates[1].name"),
    "an expiring certificate": ({"certificates": [{"name": "a", "models": "*", "expires": None}]}, "expires"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_says_where_and_repeats_nothing(what: str) -> None:
    content, where = BAD[what]
    text = content if isinstance(content, str) else json.dumps(content)
    with pytest.raises(BadAccess) as caught:
        Access.parse(text.encode())
    message = str(caught.value)
    assert where in message
    assert "\n" not in message
    assert SECRET not in message
    assert GOOD["sha256"] not in message


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    with suppress(BadAccess):
        Access.parse(data)
