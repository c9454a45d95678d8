"""Authorities, certificates and tokens for tests, made when they are wanted: none is in the repository."""

import ipaddress
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, and writes all it makes into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._base = folder / name
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._number = 0
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self._sign(self._name, self._key.public_key(), ca=True)))

    def issue(self, name: str, *, uri: str = "", common_name_only: bool = False, expired: bool = False) -> Pair:
        """A certificate for this machine's loopback, for `name` and `uri`."""
        self._number += 1
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
        names += [x509.DNSName(name), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = self._sign(_name(name), key.public_key(), names=[] if common_name_only else names, expired=expired)
        base = self._base.with_name(f"{self._base.name}-{name}-{self._number}")
        pair = Pair(base.with_suffix(".crt"), base.with_suffix(".key"))
        pair.certificate.write_bytes(_pem(signed))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _sign(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        *,
        names: list[x509.GeneralName] | None = None,
        ca: bool = False,
        expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=public,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 2 * DAY,
            not_valid_after=now + (-DAY if expired else DAY),
        ).add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def token_entry(token: str, *, name: str = "somebody", models: Any = "*", **others: Any) -> dict[str, Any]:
    """A token as an access file has it."""
    return {"name": name, "sha256": sha256(token.encode()).hexdigest(), "models": models, **others}


def write_access(path: Path, *tokens: dict[str, Any], certificates: list[dict[str, Any]] | None = None) -> Path:
    """An access file, written at once."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"tokens": tokens, "certificates": certificates or []}))
    return fresh.replace(path)
