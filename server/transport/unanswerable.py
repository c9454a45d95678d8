"""Requests of a call that are refused before their handler looks into them."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from server.errors import InvalidRequest, RequestError


class Unanswerable:
    """Stands for a request that is refused before anybody looks further into it. `id` is the request's own, if any."""

    def __init__(self, error: RequestError, *, request_id: str = "") -> None:
        self.error = error
        self.id = request_id

    async def refuse(self) -> Any:
        """Raises what is wrong with it."""
        raise self.error


class Unreadable(Unanswerable):
    """A request that could not be read."""

    def __init__(self, size: int) -> None:
        super().__init__(InvalidRequest("request", f"{size} bytes", "they are not a message of this call's type"))


def reader(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`parse`, but for an Unreadable where it raises."""

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return Unreadable(len(data))

    return read
