"""Every error has its status, and the tree is drawn as it is."""

import inspect
import re
from collections.abc import Iterator

import grpc
import pytest

from server import errors
from server.errors import (
    MAX_SHOWN,
    InvalidRequest,
    NotFinite,
    QueueFull,
    RequestError,
    ServerError,
    StartupError,
    shown,
)
from server.transport.status import PUSHBACK, REJECTED, STATUS, trailing_metadata


def descendants(cls: type[RequestError]) -> Iterator[type[RequestError]]:
    for child in cls.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_request_error_has_a_status() -> None:
    """The transport looks up the very class that was raised."""
    assert set(STATUS) == set(descendants(RequestError))


def test_only_request_errors_are_counted_as_rejected() -> None:
    assert set(REJECTED) <= set(STATUS)
    assert len(set(REJECTED.values())) == len(REJECTED)


def test_no_error_is_answered_with_ok_or_unknown() -> None:
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(STATUS.values())


def test_the_tree_is_drawn_whole() -> None:
    """The module's docstring names every class, and no other."""
    classes = {name for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ServerError)}
    assert set(re.findall(r"^[\s├└│─]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)) - {"Everything"} == classes


def test_everything_is_a_server_error() -> None:
    assert {StartupError, RequestError} == set(ServerError.__subclasses__())


def test_an_invalid_request_names_field_value_and_limit() -> None:
    error = InvalidRequest("horizon", 0, "it must be from 1 to 9")
    assert str(error) == "horizon is 0; it must be from 1 to 9"
    assert error.field == "horizon"


@pytest.mark.parametrize("cls", list(STATUS))
def test_only_a_full_queue_has_pushback(cls: type[RequestError]) -> None:
    if cls is QueueFull:
        assert trailing_metadata(QueueFull("full", pushback_ms=7)) == ((PUSHBACK, "7"),)
    elif cls not in (InvalidRequest, NotFinite):
        assert trailing_metadata(cls("why")) == ()


@pytest.mark.parametrize(("text", "expected"), [("demo", "'demo'"), ("it's", '"it\'s"'), ("a\nb", r"'a\nb'")])
def test_a_callers_text_is_quoted(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_a_callers_text_is_cut_where_it_is_long() -> None:
    assert shown("x" * MAX_SHOWN) == repr("x" * MAX_SHOWN)
    assert shown("x" * 100_000) == repr("x" * MAX_SHOWN + "…")
