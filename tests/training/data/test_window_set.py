"""Windows by their places: equal to a naive enumeration, never across series or parts, with times and numbers."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data import (
    Dataset,
    Parts,
    Provenance,
    Series,
    SplitOptions,
    WindowSet,
    all_windows,
    coverage_lines,
    split_windows,
)
from training.data.series import PackedSeries
from training.errors import DataError


class Row(NamedTuple):
    """Where a number of `dataset_of` stands."""

    series: int
    place: int


def dataset_of(lengths: list[int], gaps: set[Row], *, num_features: int = 1) -> Dataset:
    """Series s holds 1000·s + place, so that every number says where it stands; further features are its negative."""
    series = []
    for s, length in enumerate(lengths):
        targetable = np.array([Row(s, place) not in gaps for place in range(length)], dtype=np.bool_)
        numbers = 1000.0 * s + np.arange(length)
        columns = [numbers] + [-numbers] * (num_features - 1)
        seconds = 60 * (1000 * s + np.arange(length, dtype=np.int64))
        series.append(Series(values=np.stack(columns, axis=1), targetable=targetable, time_seconds=seconds))
    return Dataset(
        features=("x", "y", "z")[:num_features],
        series=tuple(series),
        provenance=Provenance(num_series=len(lengths), num_rows=sum(lengths)),
        series_ids=tuple(f"s{s}" for s in range(len(lengths))),
    )


def naive_targets(
    lengths: list[int], gaps: set[Row], split: SplitOptions, window: int, horizon: int
) -> list[list[list[float]]]:
    """The targets of each part's windows, row by row."""
    found: list[list[list[float]]] = [[], [], []]
    for s, length in enumerate(lengths):
        parts: list[list[list[float]]] = []
        for part in split.bounds(length):
            rows = []
            for first in part:
                ahead = range(first, first + horizon)
                if first >= window and ahead.stop <= part.stop and all(Row(s, place) not in gaps for place in ahead):
                    rows.append([1000.0 * s + place for place in ahead])
            parts.append(rows)
        if parts[0]:
            for all_rows, rows in zip(found, parts, strict=True):
                all_rows.extend(rows)
    return found


@st.composite
def gappy_lengths(draw: st.DrawFn) -> tuple[list[int], set[Row]]:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    rows = st.integers(0, len(lengths) - 1).flatmap(
        lambda s: st.integers(0, lengths[s] - 1).map(lambda place: Row(s, place))
    )
    return lengths, draw(st.sets(rows, max_size=8))


@given(gappy_lengths(), st.integers(1, 6), st.integers(1, 4), st.sampled_from([0.1, 0.3, 2, 5]))
def test_the_places_are_those_of_a_naive_enumeration(
    series: tuple[list[int], set[Row]], window: int, horizon: int, test: float
) -> None:
    lengths, gaps = series
    split = SplitOptions(validation=0.25, test=test)
    assume(min(lengths) > 7)
    expected = naive_targets(lengths, gaps, split, window, horizon)
    dataset = dataset_of(lengths, gaps)
    if not all(expected):
        with pytest.raises(DataError, match="no window of"):
            split_windows(dataset, split, window, horizon)
        return
    parts = split_windows(dataset, split, window, horizon)
    for part, targets in zip(parts, expected, strict=True):
        assert part.targets().tolist() == targets
        assert len(part) == len(targets)
        assert part.values[part.rows, 0].tolist() == [row[0] for row in targets]


@given(gappy_lengths(), st.integers(1, 6), st.integers(1, 4))
def test_a_window_and_its_targets_are_consecutive_rows_of_one_series(
    series: tuple[list[int], set[Row]], window: int, horizon: int
) -> None:
    lengths, gaps = series
    try:
        found = all_windows(dataset_of(lengths, gaps, num_features=2), window, horizon)
    except DataError:
        assert not any(naive_targets(lengths, gaps, SplitOptions(validation=1e-9, test=1e-9), window, horizon)[0])
        return
    batch = found.batch(np.arange(len(found)))
    whole = np.concatenate((batch.windows[:, :, 0], batch.targets), axis=1)
    assert (np.diff(whole, axis=1) == 1).all()
    assert (whole // 1000 == whole[:, :1] // 1000).all()
    assert (batch.windows[:, :, 1] == -batch.windows[:, :, 0]).all()
    assert batch.time_seconds is not None
    assert (batch.time_seconds == 60 * batch.windows[:, :, 0]).all()
    assert batch.series is not None
    assert (batch.series == whole[:, :1] // 1000).all()


def parts_of(horizon: int = 1) -> Parts:
    return split_windows(dataset_of([40, 60], {Row(0, 12), Row(1, 30)}), SplitOptions(), 4, horizon)


def test_no_target_is_in_two_parts_and_no_window_sees_a_later_part() -> None:
    parts = parts_of(horizon=3)
    for earlier, later in ((parts.fit, parts.validation), (parts.validation, parts.test)):
        assert not set(earlier.targets().ravel()) & set(later.targets().ravel())
        for s in (0, 1):
            seen = np.concatenate((earlier.windows()[:, :, 0].ravel(), earlier.targets().ravel()))
            first = later.targets()[later.targets() // 1000 == s].min()
            assert seen[seen // 1000 == s].max() < first


def test_any_batch_is_the_windows_it_names() -> None:
    found = parts_of().fit
    chosen = np.random.default_rng(0).integers(0, len(found), 30)
    batch = found.batch(chosen)
    np.testing.assert_array_equal(batch.windows, found.windows()[chosen])
    np.testing.assert_array_equal(batch.targets, found.targets()[chosen])
    assert batch.windows.dtype == np.float64
    single = found.batch(chosen, np.float32)
    assert single.windows.dtype == np.float32
    assert single.targets.dtype == np.float32
    np.testing.assert_array_equal(single.windows, batch.windows.astype(np.float32))
    assert found.batch(chosen, times=False).time_seconds is None
    assert found.batch(np.array([], dtype=np.int64)).windows.shape == (0, 4, 1)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_in_order_are_all_windows_once(size: int) -> None:
    found = parts_of(horizon=2).fit
    batches = list(found.batches(size))
    np.testing.assert_array_equal(np.concatenate([batch.windows for batch in batches]), found.windows())
    np.testing.assert_array_equal(np.concatenate([batch.targets for batch in batches]), found.targets())
    assert max(len(batch.targets) for batch in batches) <= size


def test_a_series_own_windows_can_be_had_alone() -> None:
    found = parts_of().fit
    alone = dict(found.each_series())
    assert found.windows_per_series.tolist() == [len(own) for own in alone.values()]
    assert list(alone) == [0, 1]
    assert sum(map(len, alone.values())) == len(found)
    for s, own in alone.items():
        assert set(own.targets().ravel() // 1000) == {s}
        batch = own.batch(np.arange(len(own)))
        assert batch.series is not None
        assert (batch.series == s).all()


def test_a_series_without_ids_or_dates_has_no_numbers_and_no_times() -> None:
    values: NDArray[np.float64] = np.arange(9.0)[:, None]
    found = WindowSet(values=values, rows=np.array([3, 4, 8]), window=3)
    batch = found.batch(np.array([0, 2]))
    assert batch.targets.tolist() == [[3], [8]]
    assert batch.time_seconds is None
    assert batch.series is None
    assert not found.has_times
    assert not found.has_series


def test_series_are_numbered_by_the_table_of_the_model() -> None:
    dataset = dataset_of([30, 30, 30], set()).numbered_as(("s2", "other", "s0"))
    found = all_windows(dataset, 4)
    batch = found.batch(np.arange(len(found)))
    assert batch.series is not None
    own = (batch.targets[:, 0] // 1000).astype(int)
    assert batch.series[:, 0].tolist() == np.array([2, -1, 0])[own].tolist()


def test_a_series_too_short_to_fit_on_is_left_out_and_named() -> None:
    dataset = dataset_of([60, 6, 60, 11], set())
    parts = split_windows(dataset, SplitOptions(), 8)
    assert all(set(part.targets().ravel() // 1000) == {0, 2} for part in parts)
    assert coverage_lines(dataset, parts) == (
        "2 of 4 series have no window of 8 rows to fit on and are left out: 's1', 's3'",
    )


def test_a_series_without_a_window_in_a_later_part_is_named() -> None:
    dataset = dataset_of([60, 60], {Row(1, place) for place in range(48, 60)})
    parts = split_windows(dataset, SplitOptions(), 8)
    assert set(parts.fit.targets().ravel() // 1000) == {0, 1}
    assert coverage_lines(dataset, parts) == ("1 of 2 series have no window in the test part: 's1'",)


def test_a_series_shorter_than_the_parts_held_back_is_left_out() -> None:
    dataset = dataset_of([60, 25], set())
    parts = split_windows(dataset, SplitOptions(validation=10, test=20), 8)
    assert set(np.concatenate([part.targets().ravel() for part in parts]) // 1000) == {0}
    with pytest.raises(DataError, match="the series has 25 rows, of which validation takes 10 and test 20"):
        split_windows(dataset_of([25, 20], set()), SplitOptions(validation=10, test=20), 8)


def test_the_error_speaks_of_horizon_and_the_longest_series() -> None:
    with pytest.raises(DataError, match="validation part has no window of 8 rows with 7 measured values behind it; "):
        split_windows(dataset_of([60, 50], set()), SplitOptions(), 8, 7)
    with pytest.raises(DataError, match="the longest of 2 series has 8 rows, of which 5 to fit on"):
        split_windows(dataset_of([8, 7], set()), SplitOptions(), 8)


def test_series_are_constant_together_or_not_at_all() -> None:
    def level(value: float) -> Series:
        return Series(values=np.full((50, 1), value), targetable=np.ones(50, dtype=np.bool_))

    def both(one: float, other: float) -> Dataset:
        provenance = Provenance(num_series=2, num_rows=100)
        return Dataset(features=("x",), series=(level(one), level(other)), provenance=provenance)

    assert len(split_windows(both(1, 2), SplitOptions(), 4).fit)
    with pytest.raises(DataError, match="column 'x' is 7 in all 70 rows to fit on; nothing to learn"):
        split_windows(both(7, 7), SplitOptions(), 4)


def test_the_largest_magnitude_is_that_of_each_feature() -> None:
    found = all_windows(dataset_of([30, 30], set(), num_features=2), 4)
    assert found.largest.tolist() == [1029, 1029]


def test_packed_series_come_back_as_they_went_in() -> None:
    dataset = dataset_of([5, 1, 7], {Row(0, 0), Row(2, 3), Row(2, 6)}, num_features=3)
    packed = PackedSeries.of(dataset.series)
    assert len(packed) == 3
    for one, other in zip(packed, dataset.series, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.targetable, other.targetable)
        np.testing.assert_array_equal(one.time_seconds, other.time_seconds)
    assert len(packed[1:]) == 2
    with pytest.raises(IndexError):
        packed[3]
