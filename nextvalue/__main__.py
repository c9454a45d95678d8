"""Predictions, models and health from a shell: `python -m nextvalue --help`.

Exit codes: 0 done; 1 the call failed, or the server is not serving; 2 wrong usage; 130 interrupted.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from nextvalue.client import Client
from nextvalue.errors import NextvalueError
from nextvalue.health import HealthStatus
from nextvalue.options import security_of
from nextvalue.parser import attach_numbers, build_parser, check_predict
from nextvalue.rows import windows_array
from nextvalue.tables import MODEL_COLUMNS, interval_rows, model_rows, nested, table_lines

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; wrong usage raises `SystemExit(2)`, as argparse does."""
    parser = build_parser()
    arguments = parser.parse_args(attach_numbers(sys.argv[1:] if argv is None else argv))
    if arguments.command == "predict":
        check_predict(parser, arguments)
    try:
        with Client(arguments.target, **security_of(parser, arguments, os.environ)) as client:
            code = COMMANDS[arguments.command](client, arguments)
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
    """Prints the predictions of every window, one window a line; with intervals a table, one value ahead a line."""
    times, series = arguments.times, arguments.series
    prediction = client.predict(
        arguments.model,
        windows_array(arguments.windows),
        horizon=arguments.horizon,
        version=arguments.version,
        future=arguments.future,
        # Given once, they are those of every window.
        times=times[0] if times is not None and len(times) == 1 else times,
        series=series[0] if series is not None and len(series) == 1 else series,
        intervals=arguments.intervals,
        rollout=arguments.rollout,
        timeout_seconds=arguments.timeout,
    )
    if arguments.json:
        answer: dict[str, Any] = {
            "model": prediction.model,
            "version": prediction.version,
            "predictions": nested(prediction.values),
        }
        if prediction.lower is not None and prediction.upper is not None:
            answer |= {
                "levels": prediction.levels,
                "lower": nested(prediction.lower),
                "upper": nested(prediction.upper),
            }
        if series is not None:
            answer["num_unknown_series"] = prediction.num_unknown_series
        print(json.dumps(answer, allow_nan=False))
        return 0
    if prediction.num_unknown_series:
        print(
            f"nextvalue: {prediction.num_unknown_series} of {len(prediction.values)} windows are of a series that the "
            "model does not know; they got its default scale",
            file=sys.stderr,
        )
    if prediction.lower is None:
        for row in prediction.values:
            print(",".join(str(value) for value in row))
    else:
        print("\n".join(table_lines(interval_rows(prediction))))
    return 0


def models(client: Client, arguments: argparse.Namespace) -> int:
    """Prints every version of every model, one version a line."""
    found = client.models(timeout_seconds=arguments.timeout)
    if arguments.json:
        print(json.dumps({"models": [dataclasses.asdict(model) for model in found]}))
    else:
        print("\n".join(table_lines([MODEL_COLUMNS, *(row for model in found for row in model_rows(model))])))
    return 0


def health(client: Client, arguments: argparse.Namespace) -> int:
    """Prints the status; succeeds only if it is SERVING."""
    status = client.health(arguments.service, timeout_seconds=arguments.timeout)
    print(status)
    return 0 if status is HealthStatus.SERVING else EXIT_FAILED


COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "predict": predict,
    "models": models,
    "health": health,
}

if __name__ == "__main__":
    sys.exit(main())
