"""What a peer may do, and for how long."""

from typing import NamedTuple


class Limits(NamedTuple):
    """What a peer may do. Nuisances are frames that cost us and serve no call: see `Connection`."""

    max_streams: int = 1000
    max_header_bytes: int = 16_384
    max_frame_bytes: int = 1 << 18
    window_bytes: int = 1 << 20
    connection_window_bytes: int = 1 << 24
    max_nuisances: int = 20_000


class Lifetime(NamedTuple):
    """How long connections live; 0: for ever.

    An old one is asked to go, so that callers spread over servers that came later; what it has under way may take
    `grace_seconds` more. One whose peer does not answer a ping, sent every `keepalive_seconds`, within
    `keepalive_timeout_seconds` is cut: a machine that vanished says nothing.
    """

    max_age_seconds: float = 0.0
    grace_seconds: float = 30.0
    keepalive_seconds: float = 0.0
    keepalive_timeout_seconds: float = 20.0
