"""Places as runs: which rows may be targets, without a number for each of them.

Shapes: K runs, N places in all, B chosen places.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


class Runs(NamedTuple):
    """K stretches of consecutive places; run k is `starts[k]` up to, without, `stops[k]`, and never empty.

    `before` [K + 1] counts the places in front of each run, and last all N. A series without a gap is one run,
    however long, so 300 million windows cost what their gaps cost.
    """

    starts: Places
    stops: Places
    before: Places

    @classmethod
    def of_bounds(cls, starts_K: Places, stops_K: Places) -> "Runs":
        """The stretches given, without the empty ones."""
        is_some_K = starts_K < stops_K
        starts_K, stops_K = starts_K[is_some_K], stops_K[is_some_K]
        return cls(starts_K, stops_K, np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(stops_K - starts_K))))

    @classmethod
    def of_places(cls, places_N: Places) -> "Runs":
        """Places in any order, one after the other."""
        places_N = np.asarray(places_N, dtype=np.int64)
        is_start_N = np.ones(len(places_N), dtype=np.bool_)
        is_start_N[1:] = np.diff(places_N) != 1
        is_stop_N = np.ones(len(places_N), dtype=np.bool_)
        is_stop_N[:-1] = is_start_N[1:]
        return cls.of_bounds(places_N[is_start_N], places_N[is_stop_N] + 1)

    @classmethod
    def of_flags(cls, flags_L: NDArray[np.bool_], offset: int = 0) -> "Runs":
        """The places, counted from `offset`, whose flag is set."""
        if flags_L.all():
            # Most series have no gap, and there may be a hundred thousand of them.
            return cls.of_bounds(np.array([offset]), np.array([offset + len(flags_L)]))
        edges = np.flatnonzero(np.diff(flags_L, prepend=False, append=False)).astype(np.int64) + offset
        return cls.of_bounds(edges[0::2], edges[1::2])

    @property
    def total(self) -> int:
        """N, the number of places."""
        return int(self.before[-1])

    def places(self, chosen_B: Places) -> Places:
        """The places [B] that stand at `chosen` [B], each from 0 to N - 1."""
        if len(self.starts) == 1:
            places_B: Places = chosen_B + self.starts[0]
        else:
            run_B = np.searchsorted(self.before, chosen_B, side="right") - 1
            places_B = self.starts[run_B] + (chosen_B - self.before[run_B])
        return places_B

    def all_places(self) -> Places:
        """Every place, [N], written out: for small sets."""
        return self.places(np.arange(self.total, dtype=np.int64))

    def joined(self, others: "Runs") -> "Runs":
        """The stretches of both, in the order of their places."""
        starts, stops = np.concatenate((self.starts, others.starts)), np.concatenate((self.stops, others.stops))
        order = np.argsort(starts, kind="stable")
        return Runs.of_bounds(starts[order], stops[order])

    def part(self, first: int, last: int) -> "Runs":
        """Runs `first` up to, without, `last`."""
        return Runs.of_bounds(self.starts[first:last], self.stops[first:last])


def spread_evenly(count: int, limit: int | None) -> Places:
    """`limit` of the numbers from 0 to `count` - 1, first and last among them; all of them where there are no more."""
    if limit is None or limit >= count:
        return np.arange(count, dtype=np.int64)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)
