"""An operator's changes, carried to every worker and answered once all have switched."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from server.supervisor.messages import Answer, Ask, Change, Changed

# Asked for and not begun; more are refused at once.
MAX_WAITING = 64
# Who asks where no worker does: never a member, and so never answered.
NOBODY = 0


class Outgoing(NamedTuple):
    """What to tell which process."""

    process: int
    message: Change | Answer


def differing(serving: Iterable[Mapping[str, list[int]]]) -> list[str]:
    """The models of which processes serve different versions, some of them none."""
    each = list(serving)
    names = {name for versions in each for name in versions}
    return sorted(name for name in names if any(versions.get(name) != each[0].get(name) for versions in each))


class _Asked(NamedTuple):
    process: int
    ask: Ask


@dataclass
class _UnderWay:
    asked: _Asked
    number: int
    waiting: set[int]
    succeeded: bool = False
    # The first that came.
    error: Changed | None = field(default=None)


class Changes:
    """One change at a time, as in one server. Processes are known by numbers that are never used again.

    A process that is still starting takes part: it may have read its folder before the operator changed it. One that
    dies or drains is waited for no longer; what replaces it reads the folder as it is then, and `unloaded` is what it
    must let go of.
    """

    def __init__(self) -> None:
        self.unloaded: set[str] = set()
        self._members: set[int] = set()
        self._waiting: deque[_Asked] = deque()
        self._under_way: _UnderWay | None = None
        self._num_changes = 0

    def joined(self, process: int) -> None:
        """A process was started, with what is unloaded now."""
        self._members.add(process)

    def left(self, process: int) -> list[Outgoing]:
        """A process is gone or will be, and what it asked for and was not begun with it."""
        self._members.discard(process)
        self._waiting = deque(asked for asked in self._waiting if asked.process != process)
        if self._under_way is not None:
            self._under_way.waiting.discard(process)
        return list(self._go_on())

    def ask(self, process: int, ask: Ask) -> list[Outgoing]:
        """An operator's call arrived at a process."""
        if len(self._waiting) >= MAX_WAITING and process != NOBODY:
            refusal = f"{MAX_WAITING} changes wait already; try again when they are done"
            return [Outgoing(process, Answer(ask=ask.ask, error="LoadFailed", message=refusal))]
        self._waiting.append(_Asked(process, ask))
        return list(self._go_on())

    def agree(self, model: str) -> list[Outgoing]:
        """Let all read the folder of a model that they found in different states."""
        return self.ask(NOBODY, Ask(ask=0, action="load", model=model))

    def changed(self, process: int, changed: Changed) -> list[Outgoing]:
        """A process has made a change, or could not."""
        current = self._under_way
        if current is None or changed.number != current.number or process not in current.waiting:
            return []  # of a process that nobody waits for any more
        current.waiting.discard(process)
        if not changed.error:
            current.succeeded = True
        elif current.error is None:
            current.error = changed
        return list(self._go_on())

    def _go_on(self) -> Iterable[Outgoing]:
        """Answer what is done, begin what is next."""
        while True:
            if self._under_way is not None:
                if self._under_way.waiting:
                    return
                yield from self._finish(self._under_way)
                self._under_way = None
            if not self._waiting:
                return
            yield from self._begin(self._waiting.popleft())

    def _begin(self, asked: _Asked) -> Iterable[Outgoing]:
        action, model = asked.ask.action, asked.ask.model
        # At once, so that a process that starts meanwhile knows.
        if action == "unload":
            self.unloaded.add(model)
        else:
            self.unloaded.discard(model)
        self._num_changes += 1
        self._under_way = _UnderWay(asked, self._num_changes, set(self._members))
        change = Change(number=self._num_changes, action=action, model=model)
        for process in sorted(self._members):
            yield Outgoing(process, change)

    def _finish(self, done: _UnderWay) -> Iterable[Outgoing]:
        asked, error = done.asked, done.error
        if asked.ask.action == "unload" and not done.succeeded:
            # A name that nobody has is not kept for the next process.
            self.unloaded.discard(asked.ask.model)
        if asked.process in self._members:
            answer = Answer(ask=asked.ask.ask)
            if error is not None:
                answer = Answer(ask=asked.ask.ask, error=error.error, message=error.message)
            yield Outgoing(asked.process, answer)
