"""An operator's changes reach every worker, one at a time, and are answered when all have switched."""

import pytest

from server.supervisor.changes import MAX_WAITING, Changes, Outgoing, differing
from server.supervisor.messages import Action, Answer, Ask, Change, Changed


@pytest.fixture
def changes() -> Changes:
    """Of the processes 1, 2 and 3."""
    changes = Changes()
    for process in (1, 2, 3):
        changes.joined(process)
    return changes


def ask(number: int, action: Action = "load", model: str = "demo") -> Ask:
    return Ask(ask=number, action=action, model=model)


def to_all(number: int, action: Action = "load", model: str = "demo") -> list[Outgoing]:
    return [Outgoing(process, Change(number=number, action=action, model=model)) for process in (1, 2, 3)]


def done(number: int) -> Changed:
    return Changed(number=number, serving={})


def test_all_are_told_and_the_last_one_answers(changes: Changes) -> None:
    assert changes.ask(2, ask(7)) == to_all(1)
    assert changes.changed(3, done(1)) == []
    assert changes.changed(3, done(1)) == [], "twice is once"
    assert changes.changed(2, done(1)) == []
    assert changes.changed(1, done(1)) == [Outgoing(2, Answer(ask=7))]


def test_one_at_a_time(changes: Changes) -> None:
    changes.ask(1, ask(1))
    assert changes.ask(2, ask(1, "unload")) == []
    changes.changed(1, done(1))
    changes.changed(2, done(1))
    assert changes.changed(3, done(1)) == [Outgoing(1, Answer(ask=1)), *to_all(2, "unload")]


def test_the_first_error_is_the_answer(changes: Changes) -> None:
    changes.ask(1, ask(5))
    changes.changed(1, done(1))
    changes.changed(3, Changed(number=1, serving={}, error="LoadFailed", message="the third"))
    outgoing = changes.changed(2, Changed(number=1, serving={}, error="NotReady", message="the second"))
    assert outgoing == [Outgoing(1, Answer(ask=5, error="LoadFailed", message="the third"))]


def test_nobody_waits_for_one_that_is_gone(changes: Changes) -> None:
    changes.ask(1, ask(5))
    changes.changed(1, done(1))
    changes.changed(2, done(1))
    assert changes.left(3) == [Outgoing(1, Answer(ask=5))]
    assert changes.changed(3, Changed(number=1, serving={}, error="Draining", message="late")) == []
    assert [outgoing.process for outgoing in changes.ask(1, ask(6))] == [1, 2]


def test_a_change_goes_on_when_its_asker_is_gone_and_one_not_begun_does_not(changes: Changes) -> None:
    changes.ask(1, ask(5))
    changes.ask(1, ask(6, "unload"))
    changes.ask(2, ask(9, "load", "last"))
    assert changes.left(1) == []
    assert changes.changed(2, done(1)) == []
    expected = [outgoing for outgoing in to_all(2, "load", "last") if outgoing.process != 1]
    assert changes.changed(3, done(1)) == expected, "no answer, and the asker's second change was never begun"


def test_one_that_starts_meanwhile_reads_the_folder_as_it_is(changes: Changes) -> None:
    changes.ask(1, ask(5))
    changes.joined(4)
    changes.changed(1, done(1))
    changes.changed(2, done(1))
    assert changes.changed(3, done(1)) == [Outgoing(1, Answer(ask=5))]
    assert [outgoing.process for outgoing in changes.ask(4, ask(1))] == [1, 2, 3, 4]


def test_what_is_unloaded_is_known_to_one_that_starts(changes: Changes) -> None:
    changes.ask(1, ask(1, "unload"))
    assert changes.unloaded == {"demo"}, "as soon as it is begun"
    for process in (1, 2, 3):
        changes.changed(process, done(1))
    assert changes.unloaded == {"demo"}
    changes.ask(1, ask(2))
    assert changes.unloaded == set()


def test_what_nobody_has_is_not_remembered(changes: Changes) -> None:
    changes.ask(1, ask(1, "unload", "nobody"))
    for process in (1, 2, 3):
        changes.changed(process, Changed(number=1, serving={}, error="ModelNotFound", message="no"))
    assert changes.unloaded == set()


def test_the_queue_is_bounded(changes: Changes) -> None:
    changes.ask(1, ask(0))
    for number in range(1, MAX_WAITING + 1):
        assert changes.ask(1, ask(number)) == []
    ((process, answer),) = changes.ask(2, ask(3))
    assert process == 2
    assert isinstance(answer, Answer)
    assert (answer.ask, answer.error) == (3, "LoadFailed")


def test_all_gone_at_once(changes: Changes) -> None:
    changes.ask(1, ask(0))
    changes.ask(2, ask(0, "unload"))
    for process in (1, 2, 3):
        assert all(outgoing.process > process for outgoing in changes.left(process))
    changes.joined(4)
    assert changes.ask(4, ask(1)) == [Outgoing(4, Change(number=2, action="load", model="demo"))]


def test_what_was_found_in_different_states_is_loaded_by_all(changes: Changes) -> None:
    assert changes.agree("demo") == to_all(1)
    changes.ask(2, ask(4))
    for process in (1, 2):
        changes.changed(process, done(1))
    assert changes.changed(3, done(1)) == to_all(2), "nobody is answered, and the next one begins"


@pytest.mark.parametrize(
    ("serving", "found"),
    [
        ([], []),
        ([{"demo": [2]}], []),
        ([{"demo": [2, 1], "last": [1]}, {"last": [1], "demo": [2, 1]}], []),
        ([{"demo": [2]}, {"demo": [2]}, {"demo": [1]}], ["demo"]),
        ([{"demo": [1]}, {}], ["demo"]),
        ([{}, {"last": [1], "demo": [1]}], ["demo", "last"]),
    ],
)
def test_who_differs(serving: list[dict[str, list[int]]], found: list[str]) -> None:
    assert differing(serving) == found
