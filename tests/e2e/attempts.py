"""Sendings of calls to servers, of which Envoy logs each, and what became of them.

An attempt ends in one of three ways:

- answered: the server's last word is OK;
- not accepted: it was never sent or never read (no connection, a stream beyond GOAWAY), or the server refused it with
  UNAVAILABLE before it was queued (a server that ends with queued calls unanswered says so in its log: `Replica.stop`);
- accepted: anything else. The server had it, and no answer came: a reset, a cut connection, another status. Lost.

Two of Envoy's counters must be zero besides (`Envoy.cut`): they tell a stream beyond GOAWAY from one that was reset.
"""

import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["answered", "not accepted", "lost"]

_LINE = re.compile(r"^attempt path=(\S+) server=(\S+) flags=(\S+) grpc=(\S+) message=(.*)$")


@dataclass(frozen=True)
class Attempt:
    """One sending of a call to one server."""

    path: str
    server: str
    # Envoy's own reasons: "-" if the server had the last word.
    flags: str
    # The number of the server's status; "-" if there was none.
    status: str
    # What came with a refusal; "-" if nothing.
    message: str


OK, UNAVAILABLE = "0", "14"
# Envoy's flags: no connection, nobody to ask, too much waiting; and a stream that the server ended, which without a
# single RST_STREAM from any server is one beyond its GOAWAY.
NEVER_READ = {"UF", "UH", "UO", "UR"}
REFUSALS = ("the server is shutting down", "still being loaded")


def outcome(attempt: Attempt) -> Outcome:
    """answered, not accepted, or lost."""
    if (attempt.flags, attempt.status) == ("-", OK):
        return "answered"
    if attempt.flags != "-" and set(attempt.flags.split(",")) <= NEVER_READ:
        return "not accepted"
    if (attempt.flags, attempt.status) == ("-", UNAVAILABLE) and any(each in attempt.message for each in REFUSALS):
        return "not accepted"
    return "lost"


def attempts(log: str) -> list[Attempt]:
    """All of a log."""
    matches = [_LINE.match(line) for line in log.splitlines()]
    return [Attempt(*match.groups()) for match in matches if match]
