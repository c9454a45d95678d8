"""The order of an epoch: every window once, shuffled, from any place on and without a list of them all.

    order = epoch_order(len(parts.fit), seed=0, epoch=3)
    for start in range(0, len(order), batch_size):
        batch = parts.fit.batch(order[start : start + batch_size])

The order follows from the number of windows, the seed and the epoch alone, so a fit that was stopped in the middle
of an epoch goes on by its position. Few windows are shuffled as a list. Many are numbered by a Feistel network over
pairs (l, r) with l < a, r < b and a·b just above their number M: each round adds a hash of one half to the other,
modulo its size, which is one to one; a number that comes out at M or above goes through again until it is below
("cycle walking"). Source: Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains". The hash is the last
step of SplitMix64 (Steele, Lea and Flood 2014).
"""

import math

import numpy as np
from numpy.typing import NDArray

from training.data.runs import Places

# A list of this many numbers takes 8 MiB; a block of the network's order is worked out at a time.
LARGEST_LIST = 2**20
BLOCK = 2**16
ROUNDS = 8


class EpochOrder:
    """The numbers of windows in the order of one epoch; a slice gives some of them as an array."""

    def __init__(self, num_windows: int, *, seed: int, epoch: int, limit: int | None = None) -> None:
        self._num_windows = num_windows
        self._length = num_windows if limit is None else min(limit, num_windows)
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
        self._list = generator.permutation(num_windows) if num_windows <= LARGEST_LIST else None
        self._keys = generator.integers(2**64, size=ROUNDS, dtype=np.uint64)
        self._block: tuple[int, Places] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: slice) -> Places:
        start, stop, step = index.indices(self._length)
        if self._list is not None:
            return self._list[start:stop:step]
        if start >= stop:
            return np.empty(0, dtype=np.int64)
        blocks = [self._from_block(block, start, stop) for block in range(start // BLOCK, (stop - 1) // BLOCK + 1)]
        return np.concatenate(blocks)[::step]

    def _from_block(self, block: int, start: int, stop: int) -> Places:
        """The part of `start` to `stop` that lies in a block, which is kept for the next call."""
        if self._block[0] != block:
            positions = np.arange(block * BLOCK, min((block + 1) * BLOCK, self._num_windows), dtype=np.uint64)
            self._block = (block, permuted(positions, self._num_windows, self._keys).astype(np.int64))
        return self._block[1][max(start - block * BLOCK, 0) : stop - block * BLOCK]


def epoch_order(num_windows: int, *, seed: int, epoch: int, limit: int | None = None) -> EpochOrder:
    """The order of an epoch, or the first `limit` windows of it: other ones in each epoch."""
    return EpochOrder(num_windows, seed=seed, epoch=epoch, limit=limit)


def permuted(positions: NDArray[np.uint64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Where each position, from 0 to `size` - 1, goes: a permutation that the keys, one for each round, decide."""
    a = np.uint64(math.isqrt(size - 1) + 1)
    b = np.uint64(-(-size // int(a)))
    places = _through(positions, a, b, keys)
    outside = np.flatnonzero(places >= size)
    while len(outside):
        places[outside] = _through(places[outside], a, b, keys)
        outside = outside[places[outside] >= size]
    return places


def _through(positions: NDArray[np.uint64], a: np.uint64, b: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    left, right = np.divmod(positions, b)
    for number, key in enumerate(keys):
        if number % 2:
            right = (right + _hash(left, key) % b) % b
        else:
            left = (left + _hash(right, key) % a) % a
    return left * b + right


def _hash(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64; products wrap at 2⁶⁴."""
    values = values ^ key
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
