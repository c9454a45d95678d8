"""The command line: its commands, their options and what may be written there."""

import argparse
import math
import re
from collections.abc import Sequence
from typing import NoReturn

from nextvalue.calls import DEFAULT_TIMEOUT_SECONDS
from nextvalue.messages import ROLLOUTS, SLIDING
from nextvalue.options import add_security_options
from nextvalue.rows import Rows, check_alike, read_rows, read_text
from nextvalue.times import parse_times

EXIT_USAGE = 2
# Options whose value may start with a minus sign.
NUMBER_OPTIONS = ("--window", "--future", "--times")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (try --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="python -m nextvalue", description="Ask a Nextvalue server.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    common = Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--target", required=True, metavar="HOST:PORT", help="where the server listens")
    common.add_argument(
        "--timeout",
        type=positive_seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="how long to wait for the answer, retries included (default: %(default)s)",
    )

    add_security_options(common)

    command = commands.add_parser("predict", parents=[common], allow_abbrev=False, help="what comes after windows")
    command.set_defaults(command="predict")
    command.add_argument("--model", required=True, metavar="NAME", help="name of the model")
    command.add_argument("--version", default="", metavar="V", help="number or label (default: the server's choice)")
    command.add_argument(
        "--window",
        dest="windows",
        required=True,
        action="append",
        type=rows_argument,
        metavar="VALUES",
        help="45,46,47 for one feature; rows as in 1,10;2,20;3,30 (a row per time step) for several; "
        "@FILE or - (standard input) reads them; give the option again for further windows",
    )
    command.add_argument("--horizon", type=positive_int, default=1, metavar="K", help="how many values ahead")
    command.add_argument(
        "--future",
        action="append",
        type=rows_argument,
        metavar="VALUES",
        help="covariates of the steps being predicted, a row each for the first K-1; one option per window",
    )
    command.add_argument(
        "--times",
        action="append",
        type=times_argument,
        metavar="TIMES",
        help="when each value of the window was, for models with a calendar: 2024-01-01T08:00,2024-01-01T09:00 (UTC "
        "where no zone is written) or seconds since 1970; @FILE or - reads them; once for all windows, or per window",
    )
    command.add_argument(
        "--series",
        action="append",
        metavar="ID",
        help="the id of the window's series, for models scaled by series; once for all windows, or per window",
    )
    command.add_argument(
        "--intervals",
        nargs="?",
        const=True,
        type=levels_argument,
        metavar="LEVELS",
        help="how sure the model is: intervals of all its levels, or of those given, as in 0.5,0.9",
    )
    command.add_argument(
        "--rollout",
        choices=tuple(ROLLOUTS),
        default=SLIDING,
        help="what follows a predicted value: sliding predicts each from the last T values, carry lets the state "
        "go on (default: %(default)s)",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("models", parents=[common], allow_abbrev=False, help="what the server has")
    command.set_defaults(command="models")
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("health", parents=[common], allow_abbrev=False, help="whether it is serving")
    command.set_defaults(command="health")
    command.add_argument("--service", default="", metavar="S", help='"", readiness or liveness (default: "")')
    return parser


def check_predict(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with exit code 2 if windows differ in size, or their times or covariates do."""
    for name, rows in (
        ("windows", arguments.windows),
        ("future", arguments.future or []),
        ("times", [[times] for times in arguments.times or []]),
    ):
        try:
            check_alike(rows)
        except ValueError as error:
            parser.error(f"{name}: {error}")


def rows_argument(text: str) -> Rows:
    """A `--window` or `--future`, for argparse."""
    try:
        return read_rows(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def times_argument(text: str) -> list[int]:
    """A `--times`, for argparse."""
    try:
        return parse_times(read_text(text))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def levels_argument(text: str) -> list[float]:
    """The levels of `--intervals`, for argparse."""
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not levels such as 0.5,0.9") from None


def positive_int(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def positive_seconds(text: str) -> float:
    """A time above 0, for argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def attach_numbers(argv: Sequence[str]) -> list[str]:
    """Writes `--window -1,2` as `--window=-1,2`: argparse takes a value that starts with a minus for an option."""
    attached: list[str] = []
    for argument in argv:
        if attached and attached[-1] in NUMBER_OPTIONS and re.match(r"-[\d.]", argument):
            attached[-1] += f"={argument}"
        else:
            attached.append(argument)
    return attached
