"""Which calls go into the next message: first come, first served, joined with those of the same kind.

Plain policy: no asyncio, socket or clock. Time comes in as an argument, in seconds on one clock.

    queue.add(call)                              # somebody calls
    while queue.can_take(call.kind, now):
        message = queue.take(call.kind, now)     # message.expired: were too late; message.calls, if any: send them
    message = queue.leave(call)                  # its caller no longer waits; a message came back: nobody waits for it
    calls = queue.returned(message)              # it ended: answer those that still wait, then take again
    messages = queue.split(message)              # or it failed, and each of its calls goes on by itself

With nothing of its kind in flight a call may go at once. Otherwise it waits until one of those messages returns, or
until it is due, and whatever has come meanwhile goes along. So nobody waits longer than agreed, not even behind a
message that some server sits on.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar


@dataclass(eq=False, kw_only=True, slots=True)
class JoinableCall:
    """One caller's call. Whoever sends it adds fields of its own.

    Attributes:
        kind: calls of equal kind can share a message.
        num_windows: N.
        num_bytes: its size or that of its answer, whichever is larger.
        deadline: when its caller stops waiting.
        due: when it is sent even though others of its kind are still in flight.
        closed: nobody waits for it any more: it was answered, its caller left, or it was too late.
    """

    kind: Hashable
    num_windows: int
    num_bytes: int
    deadline: float
    due: float
    closed: bool = False


AnyCall = TypeVar("AnyCall", bound=JoinableCall)


@dataclass(eq=False)
class Message(Generic[AnyCall]):
    """Calls that are sent together.

    Attributes:
        kind: that of every call.
        calls: whose rows these are, in this order; they stay when their callers leave.
        num_waiting: how many of the calls still want an answer.
        expired: what was closed on the way because its deadline had passed.
        counted: whether it holds back later calls of its kind while it is in flight.
    """

    kind: Hashable
    calls: list[AnyCall] = field(default_factory=list)
    num_waiting: int = 0
    expired: list[AnyCall] = field(default_factory=list)
    counted: bool = False

    @property
    def deadline(self) -> float:
        """When the last of its callers stops waiting."""
        return max(call.deadline for call in self.calls)


class _Kind(Generic[AnyCall]):
    """The calls of one kind: those that wait, oldest first, and how many messages are in flight."""

    def __init__(self) -> None:
        self.waiting: deque[AnyCall] = deque()
        self.num_in_flight = 0
        self.earliest_due = math.inf  # of those that wait; of one that left, until somebody looks

    def look_for_earliest_due(self) -> None:
        dues = [call.due for call in self.waiting if not call.closed]
        self.earliest_due = min(dues) if dues else math.inf


class JoinQueue(Generic[AnyCall]):
    """Calls that wait for company.

    Args:
        max_windows: most windows in a joined message.
        max_bytes: most bytes in one, or in its answer.
        max_in_flight: messages of one kind in flight before calls of that kind wait.
    """

    def __init__(self, *, max_windows: int, max_bytes: int, max_in_flight: int) -> None:
        self.max_windows = max_windows
        self.max_bytes = max_bytes
        self.max_in_flight = max_in_flight
        self._kinds: dict[Hashable, _Kind[AnyCall]] = {}
        self._message_of: dict[AnyCall, Message[AnyCall]] = {}

    def __len__(self) -> int:
        """Kinds of which something waits or is in flight."""
        return len(self._kinds)

    def has_room_beside(self, *, num_windows: int, num_bytes: int) -> bool:
        """Whether others would fit into a message with such a call; if not, it has nothing to wait for."""
        return num_windows < self.max_windows and num_bytes < self.max_bytes

    def add(self, call: AnyCall) -> None:
        """Lets a call wait behind the others of its kind."""
        kind = self._kinds.get(call.kind)
        if kind is None:
            kind = self._kinds[call.kind] = _Kind()
        kind.waiting.append(call)
        kind.earliest_due = min(kind.earliest_due, call.due)

    def can_take(self, name: Hashable, now: float) -> bool:
        """Whether calls of this kind may go now."""
        kind = self._kinds.get(name)
        if kind is None or not kind.waiting:
            return False
        if kind.num_in_flight < self.max_in_flight:
            return True
        if now >= kind.earliest_due:
            kind.look_for_earliest_due()
        return now >= kind.earliest_due

    def next_due(self, name: Hashable) -> float:
        """When to ask `can_take` again even if nothing returns until then; infinite where nothing waits."""
        kind = self._kinds.get(name)
        return math.inf if kind is None else kind.earliest_due

    def take(self, name: Hashable, now: float) -> Message[AnyCall]:
        """Removes the next message's calls; `can_take` before `take`, always.

        The oldest go, in their order, up to the first that no longer fits. Those whose callers left are passed over,
        those whose time is up are closed and handed back. A message without calls is nothing to send, and not in
        flight.
        """
        kind = self._kinds[name]
        message: Message[AnyCall] = Message(name)
        windows_left, bytes_left = self.max_windows, self.max_bytes
        while kind.waiting:
            call = kind.waiting[0]
            if call.closed:
                pass
            elif call.deadline <= now:
                call.closed = True
                message.expired.append(call)
            elif message.calls and (call.num_windows > windows_left or call.num_bytes > bytes_left):
                break
            else:
                windows_left -= call.num_windows
                bytes_left -= call.num_bytes
                message.calls.append(call)
                self._message_of[call] = message
            kind.waiting.popleft()
        kind.look_for_earliest_due()
        message.num_waiting = len(message.calls)
        message.counted = bool(message.calls)
        kind.num_in_flight += message.counted
        self._forget_if_idle(name)
        return message

    def leave(self, call: AnyCall) -> Message[AnyCall] | None:
        """Closes a call whose caller no longer waits; closing twice is nothing.

        Returns:
            The message that it was sent in if nobody waits for that any more: its answer is not wanted.
        """
        if call.closed:
            return None
        call.closed = True
        message = self._message_of.pop(call, None)
        if message is None:
            return None
        message.num_waiting -= 1
        return None if message.num_waiting else message

    def returned(self, message: Message[AnyCall]) -> list[AnyCall]:
        """Ends a message, however it went: closes those of its calls that still wait, and hands them out."""
        waiting = self._end(message)
        for call in waiting:
            call.closed = True
        return waiting

    def split(self, message: Message[AnyCall]) -> list[Message[AnyCall]]:
        """Ends a message whose calls shall each be sent alone: a message for each that still waits.

        They hold nobody back: sent alone is how they would all have been sent if there was no joining.
        """
        messages = []
        for call in self._end(message):
            self._message_of[call] = alone = Message(message.kind, [call], num_waiting=1)
            messages.append(alone)
        return messages

    def drop_all(self) -> list[AnyCall]:
        """Closes every call that was not sent yet, and hands it out, oldest of each kind first."""
        dropped = []
        for name, kind in list(self._kinds.items()):
            dropped += [call for call in kind.waiting if not call.closed]
            kind.waiting.clear()
            kind.look_for_earliest_due()
            self._forget_if_idle(name)
        for call in dropped:
            call.closed = True
        return dropped

    def _end(self, message: Message[AnyCall]) -> list[AnyCall]:
        """Gives up the message's place in flight, once; its calls that still wait."""
        waiting = [call for call in message.calls if self._message_of.get(call) is message]
        for call in waiting:
            del self._message_of[call]
        message.num_waiting = 0
        if message.counted:
            message.counted = False
            self._kinds[message.kind].num_in_flight -= 1
            self._forget_if_idle(message.kind)
        return waiting

    def _forget_if_idle(self, name: Hashable) -> None:
        """Or a client that asks for ever other horizons would remember them all."""
        kind = self._kinds[name]
        if not kind.waiting and not kind.num_in_flight:
            del self._kinds[name]
