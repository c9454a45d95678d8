"""Certificates and callers as the options name them: read at start-up, and again while the server runs."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from server.config import Config
from server.doors.access import Access
from server.doors.certificates import Certificates, Files
from server.doors.files import Kept
from server.errors import StartupError

logger = logging.getLogger("nextvalue.doors")


class Tls(NamedTuple):
    """What connections are accepted with: for a transport that takes a context, and for one that takes texts."""

    context: ssl.SSLContext
    certificates: Certificates


class Locks:
    """`tls` None: nothing is encrypted; `access` None: nobody is asked who he is."""

    def __init__(self, config: Config) -> None:
        """Raises StartupError, one line, where options do not go together or a file is bad."""
        _check(config)
        self.tls: Kept[Certificates, Tls] | None = None
        self.access: Kept[bytes, Access] | None = None
        # There are certificates that the server has not taken yet.
        self._is_renewing = False
        if config.tls_certificate:
            ca = Path(config.tls_client_ca) if config.tls_client_ca else None
            files = Files(Path(config.tls_certificate), Path(config.tls_key), ca)
            try:
                self.tls = Kept("certificates", files.read, lambda seen: Tls(files.context(), seen))
            except (OSError, ValueError) as error:
                raise StartupError(f"tls-certificate: {error}") from None
        if config.access:
            try:
                self.access = Kept("access", Path(config.access).read_bytes, lambda seen: _access(seen, config))
            except (OSError, ValueError) as error:
                raise StartupError(f"access is {config.access!r}: {error}") from None
            # Later it may become so: the last token must be one that can be taken back.
            if not (self.access.value.knows_tokens or self.access.value.knows_certificates):
                raise StartupError(f"access is {config.access!r}: it has neither tokens nor certificates")

    async def keep(self, renew: Callable[[Tls], Awaitable[None]], *, seconds: float) -> None:
        """Look at the files every so many seconds, for ever; `renew` is told of new certificates."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look(renew)
            except Exception:
                # Such as no file left to open: the next look tries it again.
                logger.exception("certificates: what it was before stays in force")

    async def look(self, renew: Callable[[Tls], Awaitable[None]]) -> None:
        """Look once. Off the loop: a file may be on a disk that is slow."""
        if self.access is not None:
            await asyncio.to_thread(self.access.look)
        if self.tls is None:
            return
        self._is_renewing = await asyncio.to_thread(self.tls.look) or self._is_renewing
        if self._is_renewing:
            await renew(self.tls.value)
            self._is_renewing = False


def _check(config: Config) -> None:
    if bool(config.tls_certificate) != bool(config.tls_key):
        missing = "tls-key" if config.tls_certificate else "tls-certificate"
        raise StartupError(f"{missing} is not given: a certificate and its key come together")
    if config.tls_client_ca and not config.tls_certificate:
        raise StartupError("tls-client-ca is given without tls-certificate: callers' certificates need TLS")


def _access(seen: bytes, config: Config) -> Access:
    """Raises ValueError where the file, or what it asks of the other options, is wrong."""
    access = Access.parse(seen)
    if access.knows_tokens and not config.tls_certificate and config.plaintext_tokens == "off":
        raise ValueError(
            "it has tokens, and without --tls-certificate whoever listens on the way reads them; "
            "where something else encrypts, say --plaintext-tokens on"
        )
    if access.knows_certificates and not config.tls_client_ca:
        raise ValueError("it names certificates, and without --tls-client-ca nobody shows one")
    return access
