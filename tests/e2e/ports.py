"""Ports for servers that come back on the same one."""

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def lasting_ports(count: int) -> list[int]:
    """Ports that nobody listens on and that no outgoing connection is given.

    A port that port 0 gives is one of those that the system hands to connections too: while a server is away, its
    port may become the near end of somebody's connection, and the server could not come back.
    """
    low = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32768
    found: list[int] = []
    for port in random.sample(range(low // 2, low), 1000):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"no {count} free ports below {low}")
