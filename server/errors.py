"""Everything that can go wrong on purpose. Protocol-free; transport.status maps it to gRPC.

ServerError
├── StartupError        the process cannot start: one line, exit status 1
└── RequestError        one call fails, the others do not notice
    ├── InvalidRequest  a field is wrong: names field, value and limit
    ├── ModelNotFound   no such model or version
    ├── QueueFull       shed at once; says when to come back
    ├── DeadlinePassed  the caller's time ran out while queued
    ├── NotReady        the first scan is not done
    ├── Draining        the server is going away
    ├── Unauthenticated nobody knows the caller
    ├── NotAllowed      he is known, and may not
    ├── SwitchedOff     a call that this server was told not to offer
    ├── LoadFailed      what the operator asked to load cannot be served
    └── RunFailed       the engine raised: ours
        └── NotFinite   or predicted what is no number; says for which window
"""

# Characters of a caller's own text that a message repeats.
MAX_SHOWN = 100


class ServerError(Exception):
    """Base of all."""


class StartupError(ServerError):
    """The process cannot start. The message is the one line to show."""


class RequestError(ServerError):
    """One call fails."""


class InvalidRequest(RequestError):
    """A field of the request is wrong."""

    def __init__(self, field: str, value: object, limit: str) -> None:
        super().__init__(f"{field} is {value}; {limit}")
        self.field = field


class ModelNotFound(RequestError):
    """No such model, or no such version of it is served."""


class QueueFull(RequestError):
    """The model's queue has no room for this call."""

    def __init__(self, message: str, *, pushback_ms: int) -> None:
        super().__init__(message)
        self.pushback_ms = pushback_ms


class DeadlinePassed(RequestError):
    """The caller's deadline passed before a run was spent on it."""


class NotReady(RequestError):
    """The first scan of the repository is not done."""


class Draining(RequestError):
    """The server finishes what it admitted and takes nothing new."""


class Unauthenticated(RequestError):
    """The caller did not say who he is, or nobody knows him by what he said, which no message repeats."""


class NotAllowed(RequestError):
    """The caller is known, and this is not among what he may do."""


class SwitchedOff(RequestError):
    """The call is not offered; the message names the option that does."""


class LoadFailed(RequestError):
    """A version that was to be loaded did not pass its gate."""


class RunFailed(RequestError):
    """The engine raised. The detail is in the log."""


class NotFinite(RunFailed):
    """The prediction for one window of the call is NaN or infinite."""

    def __init__(self, row: int) -> None:
        super().__init__(f"the prediction for window {row} is not a finite number")
        self.row = row


def shown(text: str) -> str:
    """A caller's text as a message may repeat it: quoted, and cut where it is long (trailers are bounded)."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
