"""What a supervisor and its workers tell each other: one JSON object a line, nothing unpickled.

to a worker    start      once, first: the options, and what an operator has let go
               announce   every first worker is ready: show it
               change     load or unload a model
               answer     what became of the change that was asked for
               drain      finish what was accepted, and end
from a worker  ready      its gates have passed and its port is open
               failed     it cannot start, and why
               draining   it ends: something other than the supervisor said so
               ask        an operator's call arrived here
               changed    what became of a change
"""

from pathlib import Path
from typing import Any, Literal

import msgspec

from server.config import Config
from server.status.facts import Facts

Action = Literal["load", "unload"]

# Longer lines are no message of ours; the longest have the names of all models.
MAX_LINE_BYTES = 1 << 20
# What a status may carry over gRPC is bounded anyway.
MAX_MESSAGE_CHARACTERS = 4096


class BadMessage(Exception):
    """A line is no message."""


class _Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """One line."""


class Start(_Message, frozen=True, tag="start"):
    """`worker` counts from 1. The models of `unloaded` are not to be served."""

    worker: int
    config: Config
    unloaded: list[str]


class Announce(_Message, frozen=True, tag="announce"):
    """Show that you are ready."""


class Change(_Message, frozen=True, tag="change"):
    """Make this change, and say what became of it under the same number."""

    number: int
    action: Action
    model: str


class Answer(_Message, frozen=True, tag="answer"):
    """To an ask: `error` names a RequestError, or is empty where all workers have switched."""

    ask: int
    error: str = ""
    message: str = ""


class Drain(_Message, frozen=True, tag="drain"):
    """Finish what was accepted, and end."""


class Ready(_Message, frozen=True, tag="ready"):
    """The gates have passed and the port is open; these versions answer, by model. `facts`: for the status page."""

    serving: dict[str, list[int]]
    facts: Facts = Facts()


class Failed(_Message, frozen=True, tag="failed"):
    """It cannot start; `message` is the one line to show."""

    message: str


class Draining(_Message, frozen=True, tag="draining"):
    """It takes nothing new any more."""


class Ask(_Message, frozen=True, tag="ask"):
    """An operator wants this of all workers; `ask` is the worker's own number for it."""

    ask: int
    action: Action
    model: str


class Changed(_Message, frozen=True, tag="changed"):
    """What became of a change here, and which versions answer; `error` names a RequestError, or is empty."""

    number: int
    serving: dict[str, list[int]]
    error: str = ""
    message: str = ""
    facts: Facts = Facts()


ToWorker = Start | Announce | Change | Answer | Drain
FromWorker = Ready | Failed | Draining | Ask | Changed


def _encode_other(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"This is a bug. {type(value).__name__} is in no message.")


def _decode_other(kind: type, value: Any) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(f"This is a bug. {kind.__name__} is in no message.")


_encoder = msgspec.json.Encoder(enc_hook=_encode_other)
_to_worker: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker, dec_hook=_decode_other)
_from_worker: msgspec.json.Decoder[FromWorker] = msgspec.json.Decoder(FromWorker, dec_hook=_decode_other)


def encode(message: ToWorker | FromWorker) -> bytes:
    """The line, with its end."""
    return _encoder.encode(message) + b"\n"


def to_worker(line: bytes) -> ToWorker:
    """What the supervisor said. Raises BadMessage."""
    try:
        return _to_worker.decode(line)
    except msgspec.DecodeError as error:
        raise BadMessage(str(error)) from None


def from_worker(line: bytes) -> FromWorker:
    """What a worker said. Raises BadMessage."""
    try:
        return _from_worker.decode(line)
    except msgspec.DecodeError as error:
        raise BadMessage(str(error)) from None
