"""Looks at the models folder every so often, and has the loader do what follows."""

import asyncio
import logging

from server.errors import Draining
from server.loader import Loader
from server.repository import Repository
from server.settling import Settling

logger = logging.getLogger("nextvalue.watcher")


class Watcher:
    """New models, versions and labels are found without being asked for."""

    def __init__(self, repository: Repository, loader: Loader, *, poll_seconds: float) -> None:
        """`poll_seconds` lie between the end of one look, with all that follows from it, and the next."""
        self._repository = repository
        self._loader = loader
        self._poll_seconds = poll_seconds
        self._settling = Settling()
        self._untidy = False
        # What was wrong with the whole folder; logged once.
        self._fault = ""

    async def run(self) -> None:
        """Look until the server ends."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.look()
            except Draining:
                return
            except Exception:
                logger.exception("a look at the models folder failed")

    async def look(self) -> None:
        """One look. What an operator changes meanwhile is left for the next. Raises Draining."""
        if self._untidy:
            self._untidy = False
            await self._loader.tidy()
        repository = self._repository
        known = repository.known()
        try:
            seen = await asyncio.get_running_loop().run_in_executor(None, repository.look)
        except OSError as error:
            self._complain(f"{repository.path}: cannot be read: {error.strerror}; what serves goes on")
            return
        not_ours = {model.name for model in repository.models()} - known.keys()
        settled = self._settling.settle(
            {name: folder for name, folder in seen.items() if name not in not_ours},
            known,
            [name for name in known if repository.answers(name)],
        )
        withheld = f"{repository.path}: all that serves is gone from it; it goes on from memory"
        self._complain(withheld if self._settling.withholds else "")
        # If the first scan could not read the folder, this was it.
        repository.listed = repository.scanned = True
        for name in sorted({*settled, *known}):
            before, now = known.get(name), settled.get(name)
            if before is not None and now is not None and now.is_same(before):
                continue
            self._untidy = True
            try:
                if now is not None:
                    await self._loader.refresh(name, now, known=before)
                else:
                    await self._loader.drop(name, known=known[name])
            except Draining:
                raise
            except Exception:
                # The others have their turn all the same.
                logger.exception("model %s: what its folder has could not be taken up", name)

    def _complain(self, fault: str) -> None:
        if fault and fault != self._fault:
            logger.error("%s", fault)
        self._fault = fault
