"""Whom a connection tells what comes in."""

from typing import Protocol

from server.http2.headers import Headers


class Handler(Protocol):
    """Whom a connection tells; streams are named by their numbers."""

    def on_request(self, stream: int, headers: Headers, *, ends: bool) -> None:
        """A stream began."""

    def on_data(self, stream: int, data: bytes, *, ends: bool) -> bool:
        """Some of its data; whether the peer may send as much again. If not, `credit` lets it later."""
        ...

    def on_reset(self, stream: int) -> None:
        """The peer gave it up."""

    def on_pong(self, payload: bytes) -> None:
        """The peer has seen everything up to this ping."""


class _Nobody:
    """Is told what is of no use any more."""

    def on_request(self, stream: int, headers: Headers, *, ends: bool) -> None:
        """Nothing."""

    def on_data(self, stream: int, data: bytes, *, ends: bool) -> bool:  # noqa: ARG002 (as Handler has it)
        """Nothing."""
        return True

    def on_reset(self, stream: int) -> None:
        """Nothing."""

    def on_pong(self, payload: bytes) -> None:
        """Nothing."""


NOBODY = _Nobody()


def nowhere(_: bytes) -> None:
    """Where the peer was."""
