import pickle

import grpc
import pytest

from nextvalue import InvalidArgument, NextvalueError, errors


class _Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_has_an_error_that_keeps_code_and_details(code: grpc.StatusCode) -> None:
    assert code in errors.ERROR_OF_STATUS
    error = errors.from_rpc_error(_Failure(code, "why"))
    assert type(error) is errors.ERROR_OF_STATUS[code]
    assert (error.code, error.details, str(error)) == (code, "why", f"{code.name}: why")


def test_every_error_stands_for_a_status_and_in_the_drawing() -> None:
    tree = NextvalueError.__subclasses__()
    assert set(tree) == set(errors.ERROR_OF_STATUS.values())
    for error in tree:
        assert f"─ {error.__name__} " in str(errors.__doc__)


def test_an_error_without_details_is_its_status() -> None:
    assert str(errors.from_rpc_error(_Failure(grpc.StatusCode.CANCELLED, None))) == "CANCELLED"


def test_an_invalid_argument_is_also_a_value_error() -> None:
    assert issubclass(InvalidArgument, ValueError)


def test_errors_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(errors.invalid("horizon is 0")))  # noqa: S301 -- our own bytes
    assert type(error) is InvalidArgument
    assert str(error) == "INVALID_ARGUMENT: horizon is 0"
