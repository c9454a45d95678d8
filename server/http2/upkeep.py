"""How a connection ends that nobody ends: it grows old, or its peer is gone. Plain policy; no socket, no clock."""

from enum import Enum, auto

from server.http2.limits import Lifetime

# Of the age at which a connection is asked to go, either way: those that began together do not go together.
JITTER_SHARE = 0.1


class Step(Enum):
    """What is to be done with a connection."""

    NOTHING = auto()
    # Ask for a sign of life.
    PING = auto()
    # Ask the peer to go elsewhere, and for a sign that it has read so.
    WARN = auto()
    # Take no new calls.
    GO_AWAY = auto()
    # End it, whatever it has under way.
    CUT = auto()
    # Let go of it at once: nobody reads what would still be sent.
    DROP = auto()


class Upkeep:
    """One connection's age and signs of life. Times are seconds on one clock."""

    def __init__(self, lifetime: Lifetime, *, now: float, fraction: float) -> None:
        """`fraction`: a random number in [0, 1), which spreads the ends of connections that began together."""
        self._lifetime = lifetime
        self._next_ping = now + lifetime.keepalive_seconds if lifetime.keepalive_seconds else float("inf")
        age = lifetime.max_age_seconds * (1 - JITTER_SHARE + 2 * JITTER_SHARE * fraction)
        self._old = now + age if lifetime.max_age_seconds else float("inf")
        self._unanswered_since: float | None = None
        self._is_warned = self._has_read_warning = self._is_gone = False

    def step(self, *, now: float, num_calls: int) -> Step:
        """Asked from time to time."""
        lifetime = self._lifetime
        if self._unanswered_since is not None and now >= self._unanswered_since + lifetime.keepalive_timeout_seconds:
            return Step.DROP
        if now >= self._old:
            return self._end(now, num_calls)
        if self._unanswered_since is None and now >= self._next_ping:
            return self._ask(now, Step.PING)
        return Step.NOTHING

    def _end(self, now: float, num_calls: int) -> Step:
        if not self._is_warned:
            self._is_warned = True
            return self._ask(now, Step.WARN)
        if not self._has_read_warning:
            return Step.NOTHING
        if not self._is_gone:
            self._is_gone = True
            return Step.GO_AWAY
        return Step.CUT if not num_calls or now >= self._old + self._lifetime.grace_seconds else Step.NOTHING

    def _ask(self, now: float, step: Step) -> Step:
        self._unanswered_since = now
        self._next_ping = now + self._lifetime.keepalive_seconds
        return step

    def heard(self, asked: Step) -> None:
        """The peer answered the ping of PING or WARN."""
        if asked is Step.WARN or not self._is_warned:
            self._unanswered_since = None
        self._has_read_warning = self._has_read_warning or (asked is Step.WARN and self._is_warned)


def period_seconds(lifetime: Lifetime) -> float:
    """How often `step` should be asked; infinite where it has nothing to say."""
    times = [lifetime.max_age_seconds, lifetime.keepalive_seconds]
    shortest = min((seconds for seconds in times if seconds), default=float("inf"))
    return max(0.02, min(shortest / 10, 5.0)) if shortest < float("inf") else shortest
