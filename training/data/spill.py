"""Mixed series sorted on disk: every row goes to its series' place in a temporary file.

Shapes: L rows of a series or block, F features, S series.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.cache import TemporaryRecords
from training.data.grouping import Block, Census, RawSeries, cuts, joined

# Blocks are joined up to so many rows: the longer the pieces of a series, the fewer writes.
ROWS_AT_ONCE = 2**19


def spill_record(num_features: int, time: Any) -> np.dtype[Any]:
    """What a row takes in the file: all that is known of it, in full precision. `time` is a dtype or None."""
    fields: list[tuple[Any, ...]] = [("values", np.float64, (num_features,)), ("rows", np.int64)]
    return np.dtype(fields if time is None else [*fields, ("times", time)])


def spilled(blocks: Iterable[Block], census: Census) -> Iterator[RawSeries]:
    """One series after the other; one is in memory at a time."""
    starts_S1 = np.concatenate(([0], np.cumsum(census.counts)))
    with closing(_written(blocks, starts_S1[:-1].copy())) as records:
        has_times = "times" in (records.record.names or ())
        for code, one in enumerate(census.ids):
            found_L = records.read(int(starts_S1[code]), int(census.counts[code]))
            yield RawSeries(one, found_L["values"], found_L["rows"], found_L["times"] if has_times else None)


def _written(blocks: Iterable[Block], next_S: NDArray[np.int64]) -> TemporaryRecords:
    """Each block sorted by series, each piece at the next free place of its series."""
    records: TemporaryRecords | None = None
    for block in _long(blocks):
        if records is None:
            time = None if block.times is None else block.times.dtype
            records = TemporaryRecords(spill_record(block.values.shape[1], time))
        order = np.argsort(block.codes, kind="stable")
        codes_L = block.codes[order]
        sorted_L = np.empty(len(order), dtype=records.record)
        sorted_L["values"], sorted_L["rows"] = block.values[order], block.rows[order]
        if block.times is not None:
            sorted_L["times"] = block.times[order]
        for start, stop in cuts(codes_L):
            code = codes_L[start]
            records.write(int(next_S[code]), sorted_L[start:stop])
            next_S[code] += stop - start
    assert records is not None, "a file without a row was told apart before"
    return records


def _long(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks joined to at least ROWS_AT_ONCE rows, but for the last."""
    held: list[Block] = []
    num_rows = 0
    for block in blocks:
        held.append(block)
        num_rows += len(block.codes)
        if num_rows >= ROWS_AT_ONCE:
            yield joined(held)
            held, num_rows = [], 0
    if held:
        yield joined(held)
