"""How many connections each address has."""

from collections import Counter


class Place:
    """Of one connection, until it leaves; leaving twice is leaving once."""

    def __init__(self, taken: Counter[str], host: str) -> None:
        self._taken = taken
        self._host = host

    def leave(self) -> None:
        """The connection is gone."""
        host, self._host = self._host, ""
        if host:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]


class Places:
    """At most `most` for an address; 0: any number. Callers on this machine's own sockets have none to be told by."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken: Counter[str] = Counter()

    def take(self, host: str) -> Place | None:
        """A place for a connection from there; None if all are taken."""
        if not host or not self._most:
            return Place(self.taken, "")
        if self.taken[host] >= self._most:
            return None
        self.taken[host] += 1
        return Place(self.taken, host)
