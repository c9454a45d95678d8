"""Where a dataset came from and what had to be mended on the way, in all and for each series."""

import heapq
from collections.abc import Sequence

import msgspec

# Reports kept in a run's folder; a hundred thousand series with gaps must not make it unreadable.
MAX_REPORTS = 1000
MAX_NAMED = 3


class SeriesReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found in one series: counts as in Provenance. A series left without a row was left out."""

    id: str
    num_rows: int
    num_rows_missing: int = 0
    num_gaps_filled: int = 0
    num_rows_untimed: int = 0
    num_rows_trimmed: int = 0

    @property
    def is_notable(self) -> bool:
        """Whether there is anything to report."""
        return self.trouble > 0 or not self.num_rows

    @property
    def trouble(self) -> int:
        """How much was mended or dropped, to put the worst series first."""
        return self.num_rows_missing + self.num_gaps_filled + self.num_rows_untimed + self.num_rows_trimmed


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a dataset came from, to be kept with what was learnt from it.

    `sha256` is of the file's bytes, `time` the column the rows are ordered by and `series` the one that says which
    series a row belongs to. `num_rows_missing` counts rows missing from the timeline, `num_gaps_filled` values (not
    rows) that were filled in, those of missing rows among them, `num_rows_untimed` rows dropped for want of a time
    and `num_rows_trimmed` rows at either end that no policy could fill. `num_series_empty` series had no complete
    row and were left out. `series_reports` are those of the `num_series_reported` series with any such count, the
    worst ones first and at most MAX_REPORTS of them.
    """

    sha256: str | None = None
    time: str | None = None
    series: str | None = None
    num_series: int
    num_rows: int
    num_rows_missing: int = 0
    num_gaps_filled: int = 0
    num_rows_untimed: int = 0
    num_rows_trimmed: int = 0
    num_series_empty: int = 0
    num_series_with_gaps: int = 0
    num_series_reported: int = 0
    series_reports: tuple[SeriesReport, ...] = ()


class Tally:
    """Adds up the reports of series as they come."""

    def __init__(self) -> None:
        self._totals = dict.fromkeys(
            ("num_rows", "num_rows_missing", "num_gaps_filled", "num_rows_untimed", "num_rows_trimmed"), 0
        )
        self._num_series = self._num_empty = self._num_with_gaps = 0
        self._notable: list[SeriesReport] = []

    def add(self, report: SeriesReport) -> None:
        """Count one series in."""
        for name in self._totals:
            self._totals[name] += getattr(report, name)
        self._num_series += report.num_rows > 0
        self._num_empty += report.num_rows == 0
        self._num_with_gaps += report.num_gaps_filled > 0
        if report.is_notable:
            self._notable.append(report)

    @property
    def num_rows(self) -> int:
        """Rows so far."""
        return self._totals["num_rows"]

    def provenance(self, *, sha256: str, time: str | None, series: str | None) -> Provenance:
        """The sum. A file without a column of ids has one series, whose report the totals are."""
        worst = heapq.nlargest(MAX_REPORTS, self._notable, key=lambda report: report.trouble)
        return Provenance(
            sha256=sha256,
            time=time,
            series=series,
            num_series=self._num_series,
            num_series_empty=self._num_empty,
            num_series_with_gaps=self._num_with_gaps,
            num_series_reported=len(self._notable),
            series_reports=() if series is None else tuple(worst),
            **self._totals,
        )


def gap_lines(known: Provenance) -> tuple[str, ...]:
    """What was mended or dropped in which series, for a person to read; no line where there was nothing."""
    if known.series is None:
        return ()
    lines = []
    if known.num_series_with_gaps:
        lines.append(
            f"{known.num_series_with_gaps} of {known.num_series} series have gaps: {known.num_rows_missing} rows "
            f"missing, {known.num_gaps_filled} values filled; worst: {_worst(known, 'num_gaps_filled')}"
        )
    if known.num_rows_untimed:
        lines.append(f"{known.num_rows_untimed} rows without a time dropped; most: {_worst(known, 'num_rows_untimed')}")
    if known.num_rows_trimmed:
        lines.append(f"{known.num_rows_trimmed} rows cut at the ends; most: {_worst(known, 'num_rows_trimmed')}")
    if known.num_series_empty:
        empty = [report.id for report in known.series_reports if not report.num_rows]
        lines.append(f"{known.num_series_empty} series have no complete row and are left out: {listed(empty)}")
    return tuple(lines)


def _worst(known: Provenance, field: str) -> str:
    counts = [(getattr(report, field), report.id) for report in known.series_reports]
    worst = heapq.nlargest(MAX_NAMED, (pair for pair in counts if pair[0]), key=lambda pair: int(pair[0]))
    return ", ".join(f"{name!r} ({count})" for count, name in worst)


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:MAX_NAMED])) + (", ..." if len(names) > MAX_NAMED else "")
