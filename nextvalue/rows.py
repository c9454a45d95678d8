"""Numbers as a shell writes them: rows separated by `;` or line ends, values within a row by commas.

    45,46,47          one row: the values of a window with one feature
    1,10;2,20;3,30    several rows: one per time step, one value per feature

What they mean for a model is said here as well; what it makes of them is the server's word.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

Rows = list[list[float]]


def parse_rows(text: str) -> Rows:
    """The rows in a text; blank ones do not count.

    Raises:
        ValueError: there are none, one holds something else than numbers, or they differ in length.
    """
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    rows = [_parse_row(line) for line in lines if line]
    if not rows:
        raise ValueError("no values")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {number} has {len(row)} values: row 1 has {len(rows[0])}")
    return rows


def read_rows(source: str) -> Rows:
    """The rows in an argument: `-` reads standard input, `@PATH` a file, anything else is the text itself.

    Raises:
        ValueError: as `parse_rows`.
        OSError: the file cannot be read.
    """
    return parse_rows(read_text(source))


def read_text(source: str) -> str:
    """What an argument stands for: standard input, a file's contents, or itself.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8.
    """
    if source == "-":
        return sys.stdin.read()
    if source.startswith("@"):
        return Path(source[1:]).read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    return source


def check_alike(many: Sequence[Sequence[Sequence[float]]]) -> None:
    """Refuses windows that cannot go into one array.

    Raises:
        ValueError: one differs from the first in its number of rows or of values per row.
    """
    for number, rows in enumerate(many, start=1):
        if extent(rows) != extent(many[0]):
            raise ValueError(f"number {number} has {extent(rows)}: number 1 has {extent(many[0])}")


def extent(rows: Sequence[Sequence[float]]) -> str:
    """The size of rows in words."""
    return f"{len(rows)} row(s) of {len(rows[0])}"


def windows_array(windows: Sequence[Rows]) -> list[list[float]] | list[Rows]:
    """The windows as `predict` takes them: [N, T] where each is a single row, [N, T, F] otherwise."""
    if all(len(rows) == 1 for rows in windows):
        return [rows[0] for rows in windows]
    return list(windows)


def _parse_row(line: str) -> list[float]:
    values = []
    for cell in line.split(","):
        try:
            values.append(float(cell))
        except ValueError:
            raise ValueError(f"{cell.strip()!r} is not a number") from None
    return values
