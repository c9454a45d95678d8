"""What TLS needs, read and proved whole: certificate and key that fit, and whose client certificates count."""

import ssl
from dataclasses import dataclass
from pathlib import Path

# What gRPC speaks, and nothing else.
PROTOCOL = "h2"
# As gRPC calls the names in a caller's certificate.
NAMES, COMMON_NAME = "x509_subject_alternative_name", "x509_common_name"


class BadCertificates(ValueError):
    """The files cannot serve. The message is one line, and repeats nothing of what they hold."""


@dataclass(frozen=True, repr=False)
class Certificates:
    """PEM texts, which no message shows; `client_ca` empty: callers need no certificate."""

    chain: bytes
    key: bytes
    client_ca: bytes


@dataclass(frozen=True)
class Files:
    """Where they are; no `client_ca`: callers need no certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def read(self) -> Certificates:
        """As they are now, good or bad. Raises OSError."""
        return Certificates(
            self.certificate.read_bytes(),
            self.key.read_bytes(),
            self.client_ca.read_bytes() if self.client_ca else b"",
        )

    def context(self) -> ssl.SSLContext:
        """What connections are accepted with from now on: TLS 1.2 or newer, HTTP/2. Raises BadCertificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([PROTOCOL])
        # A peer that asks for new keys again and again costs us and not himself.
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            # Asked for a password, OpenSSL would ask the terminal.
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise BadCertificates(f"{self.certificate} and {self.key}: {_why(error)}") from None
        if self.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self.client_ca)
            except (OSError, ValueError) as error:
                raise BadCertificates(f"{self.client_ca}: {_why(error)}") from None
        return context


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is there to ask")


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no certificate and key in PEM that belong together ({error.reason or 'unreadable'})"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def names_of(certificate: object) -> tuple[str, ...]:
    """The alternative names in a peer's certificate, as `getpeercert` gives it; for want of any, the common name."""
    if not isinstance(certificate, dict):
        return ()
    found = tuple(str(value) for kind, value in certificate.get("subjectAltName", ()) if kind != "DirName")
    if found:
        return found
    pairs = (pair for part in certificate.get("subject", ()) for pair in part)
    return tuple(str(value) for key, value in pairs if key == "commonName")
