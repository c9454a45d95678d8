"""From rows in a file's order to one series after the other.

Series may follow each other, or be mixed (all of Monday, then all of Tuesday). Three ways lead to the same:
everything in memory; a file whose series follow each other as it is read; and rows put in the place of their series
in a temporary file first (`training.data.spill`).

Shapes: L rows of a block or a series, F features.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.progress import Progress
from training.data.series import Times
from training.data.table import Columns, Table, times_of, values_of
from training.errors import DataError


class Block(NamedTuple):
    """Rows as they stand in the file: numbers of their series [L], values [L, F], their own from 1 [L], times [L]."""

    codes: NDArray[np.int64]
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    times: Times | None


class RawSeries(NamedTuple):
    """The rows of one series in the order of the file, with gaps and all."""

    id: str
    values: NDArray[np.float64]
    rows: NDArray[np.int64]
    times: Times | None


class Names:
    """Numbers the ids of series in the order in which they first appear."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._codes: dict[str, int] = {}

    def codes(self, table: Table, name: str, column: Any, first_row: int) -> NDArray[np.int64]:
        """The number of each id, [L]. Raises DataError for one that is missing."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        encoded = column.combine_chunks().dictionary_encode()
        ids = ["" if value is None else str(value) for value in encoded.dictionary.to_pylist()]
        missing = -1
        codes = np.array([self._code(one) if one else missing for one in ids] + [missing], dtype=np.int64)
        # A null has no place in the dictionary; it takes the one behind the last.
        codes_L: NDArray[np.int64] = codes[encoded.indices.fill_null(len(ids)).to_numpy(zero_copy_only=False)]
        is_missing_L = codes_L == missing
        if is_missing_L.any():
            row = first_row + int(np.argmax(is_missing_L))
            raise DataError(f"{table.path}, series column {name!r}, row {row}: the id is missing")
        return codes_L

    def _code(self, one: str) -> int:
        code = self._codes.setdefault(one, len(self.ids))
        if code == len(self.ids):
            self.ids.append(one)
        return code


class Census(NamedTuple):
    """The series of a file: ids, rows of each [S], and whether each stands in one piece."""

    ids: list[str]
    counts: NDArray[np.int64]
    is_consecutive: bool


def take_census(table: Table, columns: Columns, progress: Progress) -> Census:
    """Count the rows of each series by reading the ids alone."""
    if columns.series is None:
        return Census([""], np.array([table.num_rows], dtype=np.int64), is_consecutive=True)
    names = Names()
    counts = np.zeros(0, dtype=np.int64)
    is_consecutive = True
    last = row = 0
    for block in table.blocks([columns.series]):
        codes_L = names.codes(table, columns.series, block.column(columns.series), row + 1)
        # Numbers are given in order of appearance, so one that falls is a series that comes back.
        is_consecutive &= bool((np.diff(codes_L, prepend=last) >= 0).all())
        last = int(codes_L[-1])
        seen = np.bincount(codes_L, minlength=len(names.ids))
        seen[: len(counts)] += counts
        counts = seen
        row += len(codes_L)
        progress("counting rows", row, table.num_rows or row)
    return Census(names.ids, counts, is_consecutive)


def read_blocks(table: Table, columns: Columns, names: Names, progress: Progress) -> Iterator[Block]:
    """The file's rows, block by block."""
    row = 0
    for block in table.blocks(columns.all, columns.series):
        num_rows = block.num_rows
        if columns.series is None:
            codes_L = np.zeros(num_rows, dtype=np.int64)
        else:
            codes_L = names.codes(table, columns.series, block.column(columns.series), row + 1)
        yield Block(
            codes=codes_L,
            values=values_of(block, columns.values),
            rows=np.arange(row + 1, row + 1 + num_rows),
            times=None if columns.time is None else times_of(block, columns.time),
        )
        row += num_rows
        progress("reading rows", row, table.num_rows or row)


def grouped_in_memory(blocks: Iterable[Block], names: Names) -> Iterator[RawSeries]:
    """All rows are read, then sorted by series."""
    held = list(blocks)
    if not held:
        return
    whole = joined(held)
    del held
    order = np.argsort(whole.codes, kind="stable")
    ids = names.ids or [""]
    stops = np.searchsorted(whole.codes, np.arange(len(ids)), side="right", sorter=order)
    for one, rows in zip(ids, np.split(order, stops[:-1]), strict=True):
        times = None if whole.times is None else whole.times[rows]
        yield RawSeries(one, whole.values[rows], whole.rows[rows], times)


def consecutive(blocks: Iterable[Block], names: Names) -> Iterator[RawSeries]:
    """Each series ends where the next begins; one is in memory at a time."""
    pieces: list[_Piece] = []
    for block in blocks:
        for start, stop in cuts(block.codes):
            piece = _Piece.of(block, start, stop)
            if pieces and pieces[0].code != piece.code:
                whole, pieces = _whole(pieces, names), []
                yield whole
            pieces.append(piece)
    if pieces:
        whole, pieces = _whole(pieces, names), []
        yield whole


class _Piece(NamedTuple):
    """What must be kept of a series until all of it was read."""

    code: int
    first_row: int
    values: NDArray[np.float64]
    times: Times | None

    @classmethod
    def of(cls, block: Block, start: int, stop: int) -> "_Piece":
        times_L = None if block.times is None else block.times[start:stop]
        return cls(int(block.codes[start]), int(block.rows[start]), block.values[start:stop], times_L)


def _whole(pieces: list[_Piece], names: Names) -> RawSeries:
    values_LF = np.concatenate([piece.values for piece in pieces])
    times = [piece.times for piece in pieces if piece.times is not None]
    return RawSeries(
        id=(names.ids or [""])[pieces[0].code],
        values=values_LF,
        rows=np.arange(len(values_LF)) + pieces[0].first_row,
        times=np.concatenate(times) if times else None,
    )


def cuts(codes_L: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where each stretch of equal numbers begins and ends."""
    edges = [0, *(np.flatnonzero(np.diff(codes_L)) + 1).tolist(), len(codes_L)]
    return ((start, stop) for start, stop in pairwise(edges) if start < stop)


def joined(blocks: list[Block]) -> Block:
    """Blocks, one or more, as one."""
    if len(blocks) == 1:
        return blocks[0]
    times = [block.times for block in blocks if block.times is not None]
    return Block(
        codes=np.concatenate([block.codes for block in blocks]),
        values=np.concatenate([block.values for block in blocks]),
        rows=np.concatenate([block.rows for block in blocks]),
        times=np.concatenate(times) if times else None,
    )
