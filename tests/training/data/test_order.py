"""An epoch's order: every window once, known from seed and epoch, from any place on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import order as order_module
from training.data.order import BLOCK, ROUNDS, epoch_order, permuted

MANY = 300_000_007


def keys_of(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.random.default_rng(seed).integers(2**64, size=ROUNDS, dtype=np.uint64)


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_the_network_is_a_permutation(size: int, seed: int) -> None:
    places = permuted(np.arange(size, dtype=np.uint64), size, keys_of(seed))
    assert sorted(places.tolist()) == list(range(size))


def test_every_place_is_as_likely_as_any_other() -> None:
    """χ² of where each of 8 positions goes, 64 counts of 500 expected, 49 of them free: above 110 once in a million."""
    counts = np.zeros((8, 8))
    for seed in range(4000):
        counts[np.arange(8), permuted(np.arange(8, dtype=np.uint64), 8, keys_of(seed)).astype(int)] += 1
    assert ((counts - 500) ** 2 / 500).sum() < 110


@pytest.mark.parametrize("num_windows", [1, 2, 1000, 3 * BLOCK + 5])
@pytest.mark.parametrize("is_list", [True, False])
def test_an_epoch_sees_every_window_once(num_windows: int, is_list: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_module, "LARGEST_LIST", num_windows if is_list else 0)
    order = epoch_order(num_windows, seed=5, epoch=2)
    batches = [order[start : start + 700] for start in range(0, len(order), 700)]
    assert [len(batch) for batch in batches[:-1]] == [700] * (len(batches) - 1)
    assert np.sort(np.concatenate(batches)).tolist() == list(range(num_windows))


@pytest.mark.parametrize("num_windows", [1000, MANY])
def test_a_place_in_the_middle_needs_nothing_before_it(num_windows: int) -> None:
    whole = epoch_order(num_windows, seed=0, epoch=3)
    read_before = [whole[start : start + 64] for start in range(0, 640, 64)]
    again = epoch_order(num_windows, seed=0, epoch=3)
    assert again[448:512].tolist() == read_before[7].tolist()
    assert again[0:640].tolist() == np.concatenate(read_before).tolist()


@pytest.mark.parametrize("num_windows", [1000, MANY])
def test_seeds_and_epochs_have_orders_of_their_own(num_windows: int) -> None:
    firsts = [epoch_order(num_windows, seed=seed, epoch=epoch)[0:20].tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, firsts))) == 4


def test_many_windows_come_from_everywhere_in_no_order() -> None:
    chosen = epoch_order(MANY, seed=0, epoch=0)[BLOCK - 5000 : BLOCK + 5000]
    assert len(np.unique(chosen)) == 10_000
    assert chosen.min() >= 0
    assert chosen.max() < MANY
    counts = np.histogram(chosen, bins=100, range=(0, MANY))[0]
    assert ((counts - 100) ** 2 / 100).sum() < 200  # χ² of 99 degrees of freedom
    assert abs(np.corrcoef(chosen[:-1], chosen[1:])[0, 1]) < 0.05


@pytest.mark.parametrize("num_windows", [1000, MANY])
def test_a_limit_ends_the_epoch_early_and_changes_nothing_before(num_windows: int) -> None:
    limited = epoch_order(num_windows, seed=0, epoch=0, limit=100)
    assert len(limited) == 100
    assert limited[90:200].tolist() == epoch_order(num_windows, seed=0, epoch=0)[90:100].tolist()
    assert len(limited[100:164]) == 0
    assert len(epoch_order(1000, seed=0, epoch=0, limit=2000)) == 1000
