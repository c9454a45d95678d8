"""An operator's calls that arrive here, asked of all workers."""

import asyncio
import itertools
from collections.abc import Callable

from export.artifact.manifest import is_model_name
from server.errors import Draining, LoadFailed, ModelNotFound, NotReady, RequestError
from server.loader import Loader
from server.supervisor.messages import MAX_MESSAGE_CHARACTERS, Action, Answer, Ask

# What a change may end with, by name: as many as Loader says it raises.
ERRORS: dict[str, type[RequestError]] = {
    error.__name__: error for error in (Draining, LoadFailed, ModelNotFound, NotReady)
}


class GroupLoads:
    """Loads and unloads as Loader does, in every worker; a call returns when all have switched, or the first error."""

    def __init__(self, own: Loader, send: Callable[[Ask], None]) -> None:
        self._own = own
        self._send = send
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._ended = False

    async def load(self, name: str) -> None:
        """Raises what Loader.load does."""
        if not is_model_name(name):
            await self._own.load(name)  # it says what is wrong; such a name may be of any length
        await self._ask("load", name)

    async def unload(self, name: str) -> None:
        """Raises what Loader.unload does."""
        if not is_model_name(name):
            await self._own.unload(name)
        await self._ask("unload", name)

    async def _ask(self, action: Action, name: str) -> None:
        if self._ended:
            raise Draining("the server is shutting down")
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        self._send(Ask(ask=number, action=action, model=name))
        try:
            answer = await answered
        finally:
            del self._asked[number]
        if answer.error:
            raise error_of(answer)

    def answered(self, answer: Answer) -> None:
        """What became of it; a caller that has left does not hear."""
        asked = self._asked.get(answer.ask)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def end(self) -> None:
        """Nobody will answer any more."""
        self._ended = True
        for number in self._asked:
            self.answered(Answer(ask=number, error=Draining.__name__, message="the server is shutting down"))


def error_of(answer: Answer) -> Exception:
    """The error that another worker's change ended with; one that was no caller's fault is INTERNAL here, too."""
    known = ERRORS.get(answer.error)
    return known(answer.message) if known else RuntimeError(f"{answer.error}: {answer.message}")


def described(error: Exception) -> tuple[str, str]:
    """Name and message of a change's error, as a message may carry them."""
    return type(error).__name__, str(error)[:MAX_MESSAGE_CHARACTERS]
