"""How many rows a season has: as asked for, from the spacing of the times, or from the series itself.

Shapes: L rows of a stretch, J lags.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from training.baselines.naive import target_rows
from training.baselines.origins import reaching, sampled, up_to
from training.data import WindowSet

# What recurs in dated series, in seconds; a year is the Gregorian calendar's mean.
PERIODS = {"day": 86_400.0, "week": 604_800.0, "year": 31_556_952.0}
# Months and quarters are of uneven length: twelve of 31 days are 1.9 % more than a year.
TOLERATED_MISFIT = 0.03
# Candidates are compared on at most so many windows of the part to fit on.
COMPARED_WINDOWS = 2**17
# Autocorrelations are taken of at most so many stretches without a gap, each of at most so many rows.
STRETCHES = 16
STRETCH_ROWS = 2**16
# A peak must be so high that among all the lags of a series without any correlation one like it is this unlikely.
CHANCE = 0.01


class Season(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rows` in a season, None where there is none; `found_by` says how it was found, or why not."""

    rows: int | None
    found_by: str


def check_season(asked: int | None) -> None:
    """Raise ValueError for a number of rows that is no season."""
    if asked is not None and (asked < 0 or asked == 1):
        raise ValueError(f"season is {asked}; it must be at least 2 rows, or 0 for none")


def find_season(fit: WindowSet, asked: int | None = None) -> Season:
    """The season of the part to fit on.

    `asked` rows if given (0: none). With dates a day, a week or a year, the one whose seasonal naive forecast errs
    least; else the highest peak of the autocorrelation of the series' changes.
    """
    if asked is not None:
        return Season(rows=asked or None, found_by="asked for")
    fit = up_to(fit, 1)
    return _by_calendar(fit) or _by_autocorrelation(fit)


def _by_calendar(fit: WindowSet) -> Season | None:
    """The best of the periods that are a whole number of rows, and at least two of which can be compared."""
    spacing = _spacing_seconds(fit)
    if spacing is None:
        return None
    candidates = {}
    for name, seconds in PERIODS.items():
        rows = round(seconds / spacing)
        is_whole = abs(rows * spacing - seconds) <= TOLERATED_MISFIT * seconds
        if rows >= 2 and is_whole and len(reaching(fit, rows)) >= rows:
            candidates[name] = rows
    if not candidates:
        return None
    compared = sampled(reaching(fit, max(candidates.values())), COMPARED_WINDOWS)
    targets_M = target_rows(compared, 0, 1)[:, 0]

    def error(name: str) -> float:
        return float(np.mean(np.abs(target_rows(compared, -candidates[name], 1)[:, 0] - targets_M)))

    best = min(candidates, key=error)
    return Season(rows=candidates[best], found_by=f"a {best} of rows {spacing:g} s apart")


def _spacing_seconds(fit: WindowSet) -> float | None:
    """The usual time between two rows of the longest stretch."""
    if not fit.has_times:
        return None
    longest = int(np.argmax(fit.runs.stops - fit.runs.starts))
    start = int(fit.runs.starts[longest]) - fit.window
    stop = min(int(fit.runs.stops[longest]), start + STRETCH_ROWS)
    times_L = fit.store.read(start, stop).time_seconds
    return None if times_L is None or len(times_L) < 2 else float(np.median(np.diff(times_L)))


def _by_autocorrelation(fit: WindowSet) -> Season:
    """Where the changes of the series resemble themselves most."""
    lengths_K = fit.runs.stops - fit.runs.starts + fit.window
    longest = np.argsort(-lengths_K, kind="stable")[:STRETCHES]
    longest = longest[lengths_K[longest] >= lengths_K.max() / 2]
    num_lags = min(int(lengths_K[longest].min()), STRETCH_ROWS) // 3
    products_J, num_rows = np.zeros(num_lags + 1), 0
    for k in longest:
        start = int(fit.runs.starts[k]) - fit.window
        values_L = fit.store.read(start, min(int(fit.runs.stops[k]), start + STRETCH_ROWS)).values[:, 0]
        changes_L = np.diff(values_L.astype(np.float64))
        changes_L -= changes_L.mean()
        largest = np.abs(changes_L).max(initial=0.0)
        # The changes of a counting series are the same but for rounding.
        if largest > 1e-9 * np.abs(values_L).max():
            products_J += autocorrelation(changes_L, num_lags) * len(changes_L)
            num_rows += len(changes_L)
    if not num_rows or num_lags < 3:
        return Season(rows=None, found_by="no season: the series is too short, or changes by the same all the time")
    correlation_J = products_J / num_rows
    peak = highest_peak(correlation_J)
    # Of no correlation, r_j is about normal with variance 1/L; a normal number exceeds z with less than e^(-z²/2).
    limit = np.sqrt(2 * np.log(num_lags / CHANCE) / num_rows)
    if peak is None or correlation_J[peak] < limit:
        return Season(rows=None, found_by=f"no season: the changes' autocorrelation has no peak above {limit:.2g}")
    return Season(rows=peak, found_by=f"the highest autocorrelation of the changes, {correlation_J[peak]:.2f}")


def autocorrelation(values_L: NDArray[np.float64], num_lags: int) -> NDArray[np.float64]:
    """r_j = Σ x_t x_{t+j} / Σ x_t² for j = 0 … `num_lags` of values around 0, [J], by Wiener-Khinchin."""
    size = 1 << (2 * len(values_L) - 1).bit_length()
    spectrum = np.fft.rfft(values_L / np.abs(values_L).max(), size)
    products = np.fft.irfft(np.abs(spectrum) ** 2, size)[: num_lags + 1]
    correlation_J: NDArray[np.float64] = products / products[0]
    return correlation_J


def highest_peak(correlation_J: NDArray[np.float64]) -> int | None:
    """The lag, 2 or more, of the highest value that is above both its neighbours."""
    inner = correlation_J[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation_J[:-2]) & (inner >= correlation_J[2:]))
    peaks = peaks[peaks >= 2]
    return int(peaks[np.argmax(correlation_J[peaks])]) if len(peaks) else None
