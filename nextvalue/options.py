"""The command's options for a server with locks: how it is known, and who asks."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from nextvalue.security import Tls, token_metadata

# A secret in a command line is read by whoever lists processes: it comes from a file or from here.
TOKEN_VARIABLE = "NEXTVALUE_TOKEN"  # noqa: S105 (the name of one)


class Security(TypedDict):
    """Arguments of a client."""

    tls: Tls | bool
    token: str | None
    plaintext_token: bool


def add_security_options(parser: argparse.ArgumentParser) -> None:
    """What every command takes."""
    group = parser.add_argument_group("a server with locks")
    group.add_argument("--tls", action="store_true", help="speak TLS, and trust the authorities that gRPC brings along")
    group.add_argument("--tls-ca", metavar="FILE", help="speak TLS, and trust the authorities in FILE (PEM)")
    group.add_argument("--tls-certificate", metavar="FILE", help="our own certificate, for a server that asks for one")
    group.add_argument("--tls-key", metavar="FILE", help="its key")
    group.add_argument(
        "--token-file", metavar="FILE", help=f"what we are known by (default: the variable {TOKEN_VARIABLE})"
    )
    group.add_argument("--plaintext-token", action="store_true", help="send it even where nothing is encrypted")


def security_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace, environ: Mapping[str, str]) -> Security:
    """What a client is made with; ends the program with exit code 2 where it cannot be."""
    tls: Tls | bool = arguments.tls
    try:
        if arguments.tls_ca or arguments.tls_certificate or arguments.tls_key:
            tls = Tls(ca=arguments.tls_ca, certificate=arguments.tls_certificate, key=arguments.tls_key)
            tls.credentials()
        token = environ.get(TOKEN_VARIABLE)
        if arguments.token_file:
            token = Path(arguments.token_file).read_text("ascii").strip()
        plaintext = arguments.plaintext_token
        token_metadata(token, target=arguments.target, encrypted=bool(tls), plaintext_token=plaintext)
    except UnicodeDecodeError:
        parser.error(f"{arguments.token_file}: a token is ASCII")
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except ValueError as error:
        parser.error(str(error).replace("tls:", "--tls:").replace("plaintext_token=True", "--plaintext-token"))
    return Security(tls=tls, token=token, plaintext_token=plaintext)
