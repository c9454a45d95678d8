import msgspec
import pytest

from training.data import DataOptions, Provenance, SeriesReport, gap_lines
from training.data.provenance import MAX_REPORTS, Tally


def tally_of(*reports: SeriesReport) -> Provenance:
    tally = Tally()
    for report in reports:
        tally.add(report)
    return tally.provenance(sha256="00", time="t", series="series_id")


def test_the_worst_series_come_first_and_those_without_trouble_not_at_all() -> None:
    known = tally_of(
        SeriesReport(id="fine", num_rows=9),
        SeriesReport(id="bad", num_rows=9, num_gaps_filled=2),
        SeriesReport(id="worse", num_rows=9, num_rows_missing=2, num_gaps_filled=3),
        SeriesReport(id="worst", num_rows=9, num_rows_untimed=7),
    )
    assert [report.id for report in known.series_reports] == ["worst", "worse", "bad"]
    assert (known.num_series, known.num_series_with_gaps, known.num_series_reported) == (4, 2, 3)
    assert (known.num_rows, known.num_gaps_filled) == (36, 5)


def test_a_hundred_thousand_series_with_gaps_make_a_short_report() -> None:
    known = tally_of(*(SeriesReport(id=f"s{i}", num_rows=9, num_gaps_filled=i) for i in range(1, 100_001)))
    assert known.num_series_reported == 100_000
    assert known.num_gaps_filled == 100_000 * 100_001 // 2
    assert [report.num_gaps_filled for report in known.series_reports] == list(
        range(100_000, 100_000 - MAX_REPORTS, -1)
    )
    assert len(msgspec.json.encode(known)) < 200_000
    (line,) = gap_lines(known)
    assert line.endswith("worst: 's100000' (100000), 's99999' (99999), 's99998' (99998)")


def test_a_file_of_one_series_without_an_id_has_its_totals_alone() -> None:
    tally = Tally()
    tally.add(SeriesReport(id="", num_rows=9, num_gaps_filled=2))
    known = tally.provenance(sha256="00", time=None, series=None)
    assert known.series_reports == ()
    assert known.num_gaps_filled == 2
    assert gap_lines(known) == ()


@pytest.mark.parametrize("known", [tally_of(SeriesReport(id="a", num_rows=0, num_rows_trimmed=3))])
def test_a_report_survives_the_run_folder(known: Provenance) -> None:
    assert msgspec.json.decode(msgspec.json.encode(known), type=Provenance) == known


def test_what_an_earlier_version_wrote_can_be_read() -> None:
    """The fields of a run's config.json before series had ids."""
    known = msgspec.json.decode(
        b'{"sha256": "00", "time": "t", "num_series": 1, "num_rows": 9, "num_gaps_filled": 2, "num_rows_untimed": 0,'
        b' "num_rows_trimmed": 0}',
        type=Provenance,
    )
    assert known == Provenance(sha256="00", time="t", num_series=1, num_rows=9, num_gaps_filled=2)
    options = msgspec.json.decode(
        b'{"source": "a.csv", "column": null, "features": [], "time": null, "gaps": "error", "spacing": "regular"}',
        type=DataOptions,
    )
    assert options == DataOptions(source="a.csv")
