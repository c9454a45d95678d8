"""Predictions, models and health from a shell: `python -m nextvalue --help`.

Exit codes: 0 done; 1 the call failed, or the server is not serving; 2 wrong usage; 130 interrupted.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from nextvalue.calls import DEFAULT_TIMEOUT_SECONDS
from nextvalue.client import Client
from nextvalue.errors import NextvalueError
from nextvalue.health import HealthStatus
from nextvalue.results import Model
from nextvalue.rows import Rows, check_alike, read_rows, windows_array

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended

# Options whose value may start with a minus sign.
NUMBER_OPTIONS = ("--window", "--future")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; wrong usage raises `SystemExit(2)`, as argparse does."""
    parser = build_parser()
    arguments = parser.parse_args(attach_numbers(sys.argv[1:] if argv is None else argv))
    if arguments.command is predict:
        for name in ("windows", "future"):
            try:
                check_alike(getattr(arguments, name) or [])
            except ValueError as error:
                parser.error(f"{name}: {error}")
    try:
        with Client(arguments.target) as client:
            code: int = arguments.command(client, arguments)
        sys.stdout.flush()
    except NextvalueError as error:
        print(f"nextvalue: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left. Python flushes once more at exit and must find somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def predict(client: Client, arguments: argparse.Namespace) -> int:
    """Prints the predictions of every window, one window a line."""
    prediction = client.predict(
        arguments.model,
        windows_array(arguments.windows),
        horizon=arguments.horizon,
        version=arguments.version,
        future=arguments.future,
        timeout_seconds=arguments.timeout,
    )
    if arguments.json:
        answer = {
            "model": prediction.model,
            "version": prediction.version,
            "predictions": [[shortest(value) for value in row] for row in prediction.values],
        }
        print(json.dumps(answer, allow_nan=False))
    else:
        for row in prediction.values:
            print(",".join(str(value) for value in row))
    return 0


def models(client: Client, arguments: argparse.Namespace) -> int:
    """Prints every version of every model, one version a line."""
    found = client.models(timeout_seconds=arguments.timeout)
    if arguments.json:
        print(json.dumps({"models": [dataclasses.asdict(model) for model in found]}))
    else:
        print_table([MODEL_COLUMNS, *(row for model in found for row in model_rows(model))])
    return 0


def health(client: Client, arguments: argparse.Namespace) -> int:
    """Prints the status; succeeds only if it is SERVING."""
    status = client.health(arguments.service, timeout_seconds=arguments.timeout)
    print(status)
    return 0 if status is HealthStatus.SERVING else EXIT_FAILED


MODEL_COLUMNS = ("NAME", "VERSION", "STATE", "CELL", "WINDOW", "FEATURES", "TRANSFORM", "PROVIDER", "REASON")


def model_rows(model: Model) -> list[tuple[str, ...]]:
    """A table row for each version; what is not known is a dash."""
    rows = []
    for version in model.versions:
        about = version.description
        known = (
            ("", "", "", "", "")
            if about is None
            else (about.cell, str(about.window or ""), ",".join(about.features), about.transform, about.provider)
        )
        cells = (model.name, str(version.version), str(version.state), *known, " ".join(version.reason.split()))
        rows.append(tuple(cell or "-" for cell in cells))
    return rows


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints columns that line up, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shortest(value: np.float32) -> float | None:
    """The number that a float32 prints as: 50.1 where a plain conversion gives 50.099998…; None if it is no number."""
    return float(str(value)) if np.isfinite(value) else None


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

    command = commands.add_parser("predict", parents=[common], allow_abbrev=False, help="what comes after windows")
    command.set_defaults(command=predict)
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
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("models", parents=[common], allow_abbrev=False, help="what the server has")
    command.set_defaults(command=models)
    command.add_argument("--json", action="store_true", help="print one JSON object")

    command = commands.add_parser("health", parents=[common], allow_abbrev=False, help="whether it is serving")
    command.set_defaults(command=health)
    command.add_argument("--service", default="", metavar="S", help='"", readiness or liveness (default: "")')
    return parser


def rows_argument(text: str) -> Rows:
    """A `--window` or `--future`, for argparse."""
    try:
        return read_rows(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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


if __name__ == "__main__":
    sys.exit(main())
