"""Sockets that listen, on all addresses that a name stands for."""

import errno
import socket

BACKLOG = 4096


def bind(address: str, *, reuse_port: bool) -> list[socket.socket]:
    """Sockets that listen, on all addresses that a name stands for and this machine has. Raises OSError, ValueError."""
    if address.startswith("unix:"):
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(address.removeprefix("unix:"))
        return [bound]
    host, _, text = address.rpartition(":")
    port = int(text)
    found: list[socket.socket] = []
    missing: OSError | None = None
    places = dict.fromkeys(
        (family, place)
        for family, *_, place in socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    )
    for family, place in places:
        # [::] alone takes both families; beside an address of the other it must leave that to its socket.
        alone = len(places) == 1
        try:
            found.append(_listening(family, (place[0], port, *place[2:]), reuse_port=reuse_port, alone=alone))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for other in found:
                    other.close()
                raise
            missing = error
        else:
            # Where any was to be had, all addresses have the same.
            port = found[0].getsockname()[1]
    if not found:
        raise missing or OSError(f"{host!r} has no address")
    return found


def _listening(family: int, place: tuple[object, ...], *, reuse_port: bool, alone: bool) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not alone)
        bound.bind(place)
        # Binding alone does not tell that somebody else listens there.
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound
