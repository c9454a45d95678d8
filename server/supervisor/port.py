"""Holds an address for the workers.

Bound, so that nobody else has it; not listening, so that no call waits where nobody accepts.
"""

import errno
import socket
from typing import Self

from server.config import split_address
from server.errors import StartupError


class HeldPort:
    """An address that workers of this user may share (SO_REUSEPORT), from before the first until after the last."""

    def __init__(self, address: str, *, option: str = "grpc") -> None:
        """Port 0 takes a free one. Raises StartupError if the address cannot be had."""
        host, port = split_address(address)
        self._sockets: list[socket.socket] = []
        missing = ""
        try:
            # A name may stand for several addresses; workers listen on those that there are.
            for family, *_, place in dict.fromkeys(
                socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            ):
                try:
                    self._sockets.append(_hold(family, (place[0], port or self.port, *place[2:])))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        raise
                    missing = error.strerror or ""
            if not self._sockets:
                raise OSError(errno.EADDRNOTAVAIL, missing)
        except OSError as error:
            self.close()
            raise StartupError(f"{option} is {address!r}; cannot listen there: {error.strerror}") from None
        self.address = f"{address.rpartition(':')[0]}:{self.port}"

    @property
    def port(self) -> int:
        """The one port of all, 0 before the first is held."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else 0

    def close(self) -> None:
        """Let go of it."""
        for held in self._sockets:
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _hold(family: int, place: tuple[object, ...]) -> socket.socket:
    """Raises OSError."""
    if place[1]:
        # Another group of workers would let us in, and each would take half of the other's calls. Without
        # SO_REUSEPORT nobody does; with SO_REUSEADDR connections that have ended are no hindrance. Only two groups that
        # start within the same microseconds get past each other.
        _bound(family, place, reuse_address=True, reuse_port=False).close()
    try:
        # Without SO_REUSEADDR, or the next server's probe would pass until a worker listens.
        return _bound(family, place, reuse_address=False, reuse_port=True)
    except OSError:
        # Nobody listens: there are connections that ended of a server that did not share the port.
        return _bound(family, place, reuse_address=True, reuse_port=True)


def _bound(family: int, place: tuple[object, ...], *, reuse_address: bool, reuse_port: bool) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        held.bind(place)
    except OSError:
        held.close()
        raise
    return held
