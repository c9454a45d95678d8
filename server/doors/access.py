"""Who may do what: plain policy, without a file, a socket or a clock.

An access file, in JSON. A caller is known by the token that he sends or by the name in his certificate:

    {
      "tokens": [
        {"name": "dashboard", "sha256": "<64 hex digits>", "models": ["demo"], "expires": "2027-01-31T00:00:00Z"},
        {"name": "operator", "sha256": "<64 hex digits>", "models": "*", "admin": true}
      ],
      "certificates": [{"name": "spiffe://example/forecaster", "models": ["demo", "taxi"]}]
    }

Tokens themselves are in no file of the server's: only their digests are. That fits tokens which are long and random;
a digest of a word that somebody chose is soon guessed.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest

import msgspec

from server.errors import NotAllowed, Unauthenticated, shown

ALL = "*"
# Of a digest: by so much of it the one to compare with is found, however many there are.
PREFIX_BYTES = 8
_DIGEST = re.compile(r"[0-9a-f]{64}")
# What msgspec quotes: places in a file, types, and names of fields, of which only ours are shown again.
_QUOTED = re.compile(r"`([^`$][^`]*)`")
_OURS = {"tokens", "certificates", "name", "sha256", "models", "admin", "expires"}
_TYPES = {"object", "array", "str", "int", "float", "bool", "null"}


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str
    models: str | list[str]
    admin: bool = False


class _Token(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    sha256: str
    expires: datetime | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tokens: list[_Token] = []
    certificates: list[_Entry] = []


class BadAccess(ValueError):
    """A text is no access file. The message says where, and repeats nothing of what it holds."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller may do. `models` None: all; `expires`: seconds since 1970, None: never."""

    name: str
    models: frozenset[str] | None
    admin: bool
    expires: float | None = None

    def allows(self, model: str) -> bool:
        """Whether calls about the model are his."""
        return self.models is None or model in self.models

    def check_model(self, model: str) -> None:
        """Raises NotAllowed; whether there is such a model is not told."""
        if not self.allows(model):
            raise NotAllowed(f"model {shown(model)} is not among those that this caller may ask")

    def check_admin(self, rpc: str) -> None:
        """Raises NotAllowed."""
        if not self.admin:
            raise NotAllowed(f"{rpc} is an operator's, and this caller is none")


class Access:
    """One access file."""

    def __init__(self, tokens: dict[bytes, Grant], certificates: dict[str, Grant]) -> None:
        """`tokens` by the digests of the tokens, `certificates` by the names in them."""
        self._tokens: dict[bytes, list[tuple[bytes, Grant]]] = {}
        for digest, grant in tokens.items():
            self._tokens.setdefault(digest[:PREFIX_BYTES], []).append((digest, grant))
        self._certificates = certificates

    @property
    def knows_tokens(self) -> bool:
        """Whether anybody is known by a token."""
        return bool(self._tokens)

    @property
    def knows_certificates(self) -> bool:
        """Whether anybody is known by a certificate."""
        return bool(self._certificates)

    @classmethod
    def parse(cls, text: bytes) -> "Access":
        """Raises BadAccess."""
        try:
            file = msgspec.json.decode(text, type=_File)
        except msgspec.DecodeError as error:
            # The name of a field may be a token that was put in its place.
            raise BadAccess(_QUOTED.sub(_known, str(error))) from None
        tokens: dict[bytes, Grant] = {}
        for k, token in enumerate(file.tokens):
            where = f"$.tokens[{k}]"
            if not _DIGEST.fullmatch(token.sha256):
                # Not repeated: somebody may have written the token itself.
                raise BadAccess(f"{where}.sha256 is not 64 hexadecimal digits in lower case")
            digest = bytes.fromhex(token.sha256)
            if digest in tokens:
                raise BadAccess(f"{where}.sha256 is that of an earlier token")
            tokens[digest] = _grant(where, token, expires=_seconds(f"{where}.expires", token.expires))
        certificates: dict[str, Grant] = {}
        for k, entry in enumerate(file.certificates):
            where = f"$.certificates[{k}]"
            if entry.name in certificates:
                raise BadAccess(f"{where}.name is that of an earlier certificate")
            certificates[entry.name] = _grant(where, entry)
        return cls(tokens, certificates)

    def by_token(self, token: str, *, now: float) -> Grant:
        """Raises Unauthenticated. `now`: seconds since 1970.

        What is compared are digests, which a caller cannot choose, and the comparison takes as long whatever it finds.
        """
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, grant in self._tokens.get(digest[:PREFIX_BYTES], ()):
            if compare_digest(known, digest):
                found = grant
        if found is None:
            raise Unauthenticated("nobody has this token")
        if found.expires is not None and now >= found.expires:
            raise Unauthenticated("the token has expired")
        return found

    def by_certificate(self, names: Iterable[str]) -> Grant:
        """The first of a certificate's names that is known. Raises Unauthenticated."""
        for name in names:
            if (grant := self._certificates.get(name)) is not None:
                return grant
        raise Unauthenticated("nobody has a certificate of this name")


def _known(quoted: "re.Match[str]") -> str:
    return quoted.group() if set(quoted.group(1).split(" | ")) <= _OURS | _TYPES else "…"


def _grant(where: str, entry: _Entry, *, expires: float | None = None) -> Grant:
    if not entry.name:
        raise BadAccess(f"{where}.name is empty")
    if isinstance(entry.models, str) and entry.models != ALL:
        raise BadAccess(f"{where}.models is neither a list of names nor {ALL!r}")
    models = None if ALL in entry.models else frozenset(entry.models)
    if models is not None and any(ALL in name for name in models):
        raise BadAccess(f"{where}.models has a pattern: names are written out, or {ALL!r} stands for all")
    return Grant(name=entry.name, models=models, admin=entry.admin, expires=expires)


def _seconds(where: str, expires: datetime | None) -> float | None:
    if expires is None:
        return None
    offset = expires.utcoffset()
    if offset is None or offset.total_seconds():
        raise BadAccess(f"{where} is not in UTC, such as 2027-01-31T00:00:00Z")
    return expires.timestamp()
