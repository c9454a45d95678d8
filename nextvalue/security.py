"""How a client knows its server, and the server its client: TLS, a certificate, a token."""

from dataclasses import dataclass
from pathlib import Path

import grpc

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Files in PEM. Read when a client is made.

    Attributes:
        ca: the authorities that a server's certificate must be of; None: those that gRPC brings along.
        certificate: the client's own, with its chain, for a server that asks for one; it comes with its key.
        key: the certificate's key, without a password.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise ValueError(f"{missing} is not given: a certificate and its key come together")

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is made with.

        Raises:
            OSError: a file cannot be read.
        """
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.certificate))


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def channel_credentials(credentials: grpc.ChannelCredentials | None, tls: Tls | bool) -> grpc.ChannelCredentials | None:
    """What the channel is made with; None: nothing is encrypted.

    Raises:
        ValueError: both are given.
        OSError: a file cannot be read.
    """
    if not tls:
        return credentials
    if credentials is not None:
        raise ValueError("tls and credentials are both given: credentials are all that a channel has")
    return (Tls() if tls is True else tls).credentials()


def token_metadata(token: str | None, *, target: str, encrypted: bool, plaintext_token: bool) -> Metadata | None:
    """What goes with every call; None: nothing.

    Raises:
        ValueError: the token is none, or would go where others can read it. The message does not repeat it.
    """
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token is empty, or has other characters than printable ASCII without spaces")
    # A socket of this machine's file system passes no wire.
    if not (encrypted or plaintext_token or target.startswith("unix:")):
        raise ValueError(
            "token is given without tls: whoever listens on the way reads it; plaintext_token=True sends it anyway"
        )
    return (("authorization", f"Bearer {token}"),)
