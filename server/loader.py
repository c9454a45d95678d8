"""Changes to what is served while it is served, one at a time: an operator loads a model, or lets one go."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from server.errors import Draining, LoadFailed
from server.repository import Repository
from server.versions import Version

logger = logging.getLogger("nextvalue.loader")


class Loader:
    """Loads models beside the traffic and lets them go behind it. Every method belongs to the event loop's thread.

    A change that has begun is carried to its end, whether or not its caller stays.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        activate: Callable[[asyncio.AbstractEventLoop, Version], None],
        retire: Callable[[Version], Awaitable[None]],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """`activate` is called on a thread for each version that has passed its gate, and makes it answer.

        `retire` answers what a version has accepted and frees it. `changed` follows every change.
        """
        self._repository = repository
        self._activate = activate
        self._retire = retire
        self._changed = changed
        # Whoever changes what is served holds it, the first scan included.
        self.turn = asyncio.Lock()
        self._under_way: set[asyncio.Task[None]] = set()
        self._ended = False

    async def load(self, name: str) -> None:
        """Serve what the model's folder has now.

        Calls are answered meanwhile; versions that no longer serve answer what they have accepted. Raises ModelNotFound
        without such a folder, LoadFailed if a version that should serve does not, Draining.
        """
        await self._alone(partial(self._load, name))

    async def unload(self, name: str) -> None:
        """Refuse new calls of the model, answer those accepted, free it. Raises ModelNotFound, NotReady, Draining."""
        await self._alone(partial(self._unload, name))

    def end(self) -> None:
        """Begin no further change; a load under way ends after the version it is at."""
        self._ended = True
        self._repository.cancel()

    async def ended(self) -> None:
        """Wait for the change under way."""
        async with self.turn:
            pass

    async def _alone(self, change: Callable[[], Awaitable[None]]) -> None:
        await self.turn.acquire()
        task = asyncio.ensure_future(self._through(change))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)

    async def _through(self, change: Callable[[], Awaitable[None]]) -> None:
        try:
            if self._ended:
                raise Draining("the server is shutting down")
            await change()
        finally:
            self.turn.release()

    async def _load(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, self._repository.reread, name, partial(self._activate, loop))
        if self._ended:
            raise Draining("the server is shutting down")
        replaced = self._repository.replace(found.model)
        await self._changed()
        logger.info("model %s: loaded", name)
        await asyncio.gather(*map(self._retire, replaced))
        if found.failed:
            failures = "; ".join(f"version {each.number}: {each.reason}" for each in found.failed)
            serving = ", ".join(str(version.number) for version in found.model.serving()) or "none"
            raise LoadFailed(f"model {name!r} was not loaded whole; versions that serve: {serving}; {failures}")

    async def _unload(self, name: str) -> None:
        released = self._repository.release(name)
        await self._changed()
        await asyncio.gather(*map(self._retire, released))
        self._repository.released(released)
        logger.info("model %s: unloaded", name)
