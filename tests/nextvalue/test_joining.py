"""The joining policy: no event loop, no socket, no sleep."""

import math
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nextvalue.joining import JoinableCall, JoinQueue, Message

KINDS = ("a", "b", "c")


def make_call(
    *, kind: str = "a", num_windows: int = 1, num_bytes: int = 1, deadline: float = math.inf, due: float = math.inf
) -> JoinableCall:
    return JoinableCall(kind=kind, num_windows=num_windows, num_bytes=num_bytes, deadline=deadline, due=due)


def make_queue(*, max_windows: int = 8, max_bytes: int = 80, max_in_flight: int = 1) -> JoinQueue[JoinableCall]:
    return JoinQueue(max_windows=max_windows, max_bytes=max_bytes, max_in_flight=max_in_flight)


class Crowd(RuleBasedStateMachine):
    """Random calls arrive, leave and run late; messages go out, return and fail.

    Where a call is, is written down beside the queue: waiting (by kind, in order), in a message, or ended.
    """

    @initialize(max_windows=st.integers(1, 8), max_bytes=st.integers(1, 40), max_in_flight=st.integers(1, 3))
    def start(self, max_windows: int, max_bytes: int, max_in_flight: int) -> None:
        self.queue = make_queue(max_windows=max_windows, max_bytes=max_bytes, max_in_flight=max_in_flight)
        self.now = 0.0
        self.calls: list[JoinableCall] = []
        self.waiting: dict[str, list[JoinableCall]] = {kind: [] for kind in KINDS}
        self.in_flight: list[Message[JoinableCall]] = []  # counted ones
        self.alone: list[Message[JoinableCall]] = []
        self.ended: set[JoinableCall] = set()

    def end(self, call: JoinableCall) -> None:
        assert call.closed
        assert call not in self.ended, "ended twice"
        self.ended.add(call)

    def num_in_flight(self, kind: str) -> int:
        return sum(message.kind == kind for message in self.in_flight)

    def may_go(self, kind: str) -> bool:
        free = self.num_in_flight(kind) < self.queue.max_in_flight
        return any(free or call.due <= self.now for call in self.waiting[kind])

    @rule(
        kind=st.sampled_from(KINDS),
        num_windows=st.integers(1, 10),
        num_bytes=st.integers(1, 50),
        patience=st.floats(0.1, 5) | st.just(math.inf),
        wait=st.floats(0, 2),
    )
    def arrive(self, kind: str, num_windows: int, num_bytes: int, patience: float, wait: float) -> None:
        """Calls too large to be joined as well: they must get through."""
        call = make_call(
            kind=kind,
            num_windows=num_windows,
            num_bytes=num_bytes,
            deadline=self.now + patience,
            due=self.now + min(wait, patience / 2),
        )
        self.calls.append(call)
        self.waiting[kind].append(call)
        self.queue.add(call)

    @rule(seconds=st.floats(0, 2))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """At any time; some after their answer, some twice."""
        call = data.draw(st.sampled_from(self.calls))
        inside = [message for message in (*self.in_flight, *self.alone) if call in message.calls and not call.closed]
        abandoned = self.queue.leave(call)
        last = [message for message in inside if all(other.closed for other in message.calls)]
        assert [abandoned] == last if last else abandoned is None, "told of a message that somebody still waits for"
        if call not in self.ended:
            self.end(call)
            if call in self.waiting[str(call.kind)]:
                self.waiting[str(call.kind)].remove(call)

    @rule(kind=st.sampled_from(KINDS))
    def take(self, kind: str) -> None:
        may_go = self.may_go(kind)
        if not self.queue.can_take(kind, self.now):
            assert not may_go, "held back for nothing"
            return
        message = self.queue.take(kind, self.now)
        for call in message.expired:
            assert call.deadline <= self.now
            self.end(call)
        left = [call for call in self.waiting[kind] if call not in message.expired]
        assert message.calls == left[: len(message.calls)], "not in the order of their coming"
        self.waiting[kind] = left[len(message.calls) :]
        if not message.calls:
            assert not left, "idle while something waits"
            return
        assert may_go, "more in flight than allowed, and nobody was due"
        assert all(call.deadline > self.now and not call.closed for call in message.calls)
        if len(message.calls) > 1:
            assert sum(call.num_windows for call in message.calls) <= self.queue.max_windows
            assert sum(call.num_bytes for call in message.calls) <= self.queue.max_bytes
        for call in self.waiting[kind][:1]:  # the next one would not have fitted
            together = [*message.calls, call]
            too_many = sum(each.num_windows for each in together) > self.queue.max_windows
            assert too_many or sum(each.num_bytes for each in together) > self.queue.max_bytes, "room was left"
        assert message.deadline == max(call.deadline for call in message.calls)
        self.in_flight.append(message)

    @precondition(lambda self: self.in_flight or self.alone)
    @rule(data=st.data(), fails=st.booleans())
    def come_back(self, data: st.DataObject, *, fails: bool) -> None:
        message = data.draw(st.sampled_from([*self.in_flight, *self.alone]))
        where = self.in_flight if message in self.in_flight else self.alone
        where.remove(message)
        still = [call for call in message.calls if call not in self.ended]
        if fails and len(message.calls) > 1:
            alone = self.queue.split(message)
            assert [each.calls for each in alone] == [[call] for call in still]
            assert not any(call.closed for call in still)
            self.alone += alone
        else:
            assert self.queue.returned(message) == still
            for call in still:
                self.end(call)
        assert self.queue.returned(message) == [], "answered twice"

    @rule()
    def close(self) -> None:
        dropped = self.queue.drop_all()
        assert {kind: [call for call in dropped if call.kind == kind] for kind in KINDS} == self.waiting
        for call in dropped:
            self.end(call)
        self.waiting = {kind: [] for kind in KINDS}

    @invariant()
    def every_call_is_somewhere(self) -> None:
        if not hasattr(self, "queue"):
            return
        sent = {call for message in (*self.in_flight, *self.alone) for call in message.calls}
        waiting = {call for calls in self.waiting.values() for call in calls}
        for call in self.calls:
            assert call.closed == (call in self.ended)
            assert (call in self.ended) or (call in waiting) != (call in sent), "lost"
        for message in (*self.in_flight, *self.alone):
            assert message.num_waiting == sum(not call.closed for call in message.calls)
        for kind, calls in self.waiting.items():
            if calls:
                assert self.queue.next_due(kind) <= min(call.due for call in calls), "nobody would look in time"

    def teardown(self) -> None:
        """Everything comes back: whoever did not leave or run late is answered, and nothing is remembered."""
        if not hasattr(self, "queue"):
            return
        while self.in_flight or self.alone or any(self.waiting.values()):
            for kind in KINDS:
                self.take(kind)
            for message in (*self.in_flight, *self.alone):
                for call in self.queue.returned(message):
                    self.end(call)
            self.in_flight, self.alone = [], []
        assert self.ended == set(self.calls), "lost"
        for kind in KINDS:
            self.take(kind)  # those who left are still passed over
        assert not len(self.queue)
        assert not self.queue._message_of


class TestCrowd(Crowd.TestCase):  # type: ignore[valid-type, misc]  # made by hypothesis
    settings: ClassVar[settings] = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_first_goes_at_once_and_the_others_together_when_it_returns() -> None:
    queue = make_queue()
    calls = [make_call() for _ in range(4)]
    queue.add(calls[0])
    first = queue.take("a", 0.0)
    for call in calls[1:]:
        queue.add(call)
        assert not queue.can_take("a", 0.0)
    assert queue.returned(first) == calls[:1]
    assert queue.can_take("a", 0.0)
    assert queue.take("a", 0.0).calls == calls[1:]


def test_kinds_do_not_wait_for_each_other() -> None:
    queue = make_queue()
    queue.add(make_call(kind="a"))
    queue.take("a", 0.0)
    queue.add(make_call(kind="b"))
    assert queue.can_take("b", 0.0)


@pytest.mark.parametrize(("num_windows", "num_bytes"), [(3, 1), (1, 30)])
def test_surplus_goes_into_further_messages_in_order(num_windows: int, num_bytes: int) -> None:
    queue = make_queue(max_windows=8, max_bytes=80, max_in_flight=9)
    calls = [make_call(num_windows=num_windows, num_bytes=num_bytes) for _ in range(5)]
    for call in calls:
        queue.add(call)
    assert [queue.take("a", 0.0).calls for _ in range(3)] == [calls[:2], calls[2:4], calls[4:]]


def test_a_small_call_does_not_overtake_one_that_no_longer_fits() -> None:
    queue = make_queue(max_windows=8)
    calls = [make_call(num_windows=windows) for windows in (5, 5, 1)]
    for call in calls:
        queue.add(call)
    assert queue.take("a", 0.0).calls == calls[:1]


def test_nobody_waits_for_company_beyond_the_time_it_is_due() -> None:
    """A server that sits on a message would hold up every later call."""
    queue = make_queue()
    queue.add(make_call())
    queue.take("a", 0.0)
    patient, pressed = make_call(due=5.0), make_call(due=1.0)
    queue.add(patient)
    queue.add(pressed)
    assert queue.next_due("a") == 1.0
    assert not queue.can_take("a", 0.5)
    assert queue.can_take("a", 1.0)
    assert queue.take("a", 1.0).calls == [patient, pressed]


def test_one_that_left_hurries_nobody() -> None:
    queue = make_queue()
    queue.add(make_call())
    queue.take("a", 0.0)
    pressed = make_call(due=1.0)
    queue.add(pressed)
    queue.add(make_call(due=5.0))
    queue.leave(pressed)
    assert not queue.can_take("a", 1.0)
    assert queue.next_due("a") == 5.0


def test_those_sent_alone_hold_nobody_back() -> None:
    queue = make_queue()
    for _ in range(2):
        queue.add(make_call())
    assert len(queue.split(queue.take("a", 0.0))) == 2
    queue.add(make_call())
    assert queue.can_take("a", 0.0)


def test_what_fills_a_message_has_nothing_to_wait_for() -> None:
    queue = make_queue(max_windows=8, max_bytes=80)
    assert queue.has_room_beside(num_windows=7, num_bytes=79)
    assert not queue.has_room_beside(num_windows=8, num_bytes=1)
    assert not queue.has_room_beside(num_windows=1, num_bytes=80)
