"""Requests of a call that are refused before their handler looks into them."""

from typing import Any

from server.errors import RequestError


class Unanswerable:
    """Stands for a request that is refused before anybody looks further into it. `id` is the request's own, if any."""

    def __init__(self, error: RequestError, *, request_id: str = "") -> None:
        self.error = error
        self.id = request_id

    async def refuse(self) -> Any:
        """Raises what is wrong with it."""
        raise self.error
