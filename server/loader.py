"""Changes to what is served while it is served, one at a time: an operator's, or what a look at the folder found."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from server.errors import Draining, LoadFailed
from server.folders import ModelFolder
from server.repository import Repository, Reread
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
        tidy: Callable[[], None],
        give_back: Callable[[], Awaitable[None]],
    ) -> None:
        """`activate` is called on a thread for each version that has passed its gate, and makes it answer.

        `retire` answers what a version has accepted and frees it. `changed` follows every change; `tidy` clears away
        what is left of versions that are gone, while no other change is under way.
        """
        self._repository = repository
        self._activate = activate
        self._retire = retire
        self._changed = changed
        self._tidy = tidy
        self._give_back = give_back
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

    async def refresh(self, name: str, folder: ModelFolder, *, known: ModelFolder | None) -> None:
        """Serve what a model's folder was seen to have, as `load`; versions that fail are in the log alone.

        Nothing happens if the model is no longer made from `known`, which that was compared with; None: there was no
        such model. Raises Draining.
        """
        await self._alone(partial(self._refresh, name, folder, known))

    async def drop(self, name: str, *, known: ModelFolder) -> None:
        """Let a model go whose folder is gone; nothing happens as in `refresh`. Raises Draining."""
        await self._alone(partial(self._drop, name, known))

    async def tidy(self) -> None:
        """Clear away what calls that ended late have left of versions that are gone. Raises Draining."""

        async def change() -> None:
            self._tidy()

        await self._alone(change)

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
        await self._put_in_place(found)
        logger.info("model %s: loaded", name)
        if found.failed:
            failures = "; ".join(f"version {each.number}: {each.reason}" for each in found.failed)
            serving = _numbers(found.model.serving())
            raise LoadFailed(f"model {name!r} was not loaded whole; versions that serve: {serving}; {failures}")

    async def _put_in_place(self, found: Reread) -> None:
        if self._ended:
            raise Draining("the server is shutting down")
        replaced = self._repository.replace(found.model)
        await self._changed()
        await self._retire_all(replaced)

    async def _retire_all(self, versions: Iterable[Version]) -> None:
        retired = list(versions)
        await asyncio.gather(*map(self._retire, retired))
        self._tidy()
        if retired:
            await self._give_back()

    async def _refresh(self, name: str, folder: ModelFolder, known: ModelFolder | None) -> None:
        if not self._repository.is_as_known(name, known):
            return
        loop = asyncio.get_running_loop()
        activate = partial(self._activate, loop)
        found = await loop.run_in_executor(None, self._repository.refresh, name, folder, activate)
        await self._put_in_place(found)
        logger.info("model %s: its folder changed; versions that serve: %s", name, _numbers(found.model.serving()))

    async def _drop(self, name: str, known: ModelFolder) -> None:
        if not self._repository.is_as_known(name, known):
            return
        dropped = self._repository.drop(name)
        await self._changed()
        await self._retire_all(dropped)
        logger.warning("model %s: let go, its folder is gone", name)

    async def _unload(self, name: str) -> None:
        released = self._repository.release(name)
        await self._changed()
        await self._retire_all(released)
        self._repository.released(released)
        logger.info("model %s: unloaded", name)


def _numbers(versions: Iterable[Version]) -> str:
    return ", ".join(str(version.number) for version in versions) or "none"
