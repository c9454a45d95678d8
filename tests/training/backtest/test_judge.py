"""What a report says is what its definitions say, on series small enough to check by hand."""

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.training.backtest.samples import baselines, windows_of
from tests.training.models import random_model, steady
from training.backtest import Judged, Report, backtest_table, fit_baselines, judge, leak
from training.backtest.report import Row
from training.baselines import Autoregression, LeftOut, Season
from training.data import Parts, WindowSet
from training.data.cache import FileRows
from training.data.rows import MemoryRows
from training.errors import DataError, FitError
from training.model import RecurrentModel

VALUES = [0.0, 0, 1, 4, 5]


def judged_of(model: RecurrentModel, test: WindowSet, **options: Any) -> Judged:
    options.setdefault("known", baselines())
    return judge(model, test, options.pop("known"), target="x", source="here", **options)


def row_of(report: Report, name: str) -> Row:
    return next(row for row in report.rows if row.name == name)


def test_errors_are_those_of_the_definition() -> None:
    """Targets 1, 4, 5; ours 2, 3, 6; the last value 0, 1, 4; the autoregression 0.5, 1.5, 4.5."""
    judged = judged_of(steady(2.0), windows_of(VALUES, [2, 3, 4]))
    report = judged.report
    assert [row.name for row in report.rows] == ["rnn", "last value", "AR(2)"]
    assert [row.rmse for row in report.rows] == pytest.approx([1, (11 / 3) ** 0.5, (6.75 / 3) ** 0.5])
    assert [row.mae for row in report.rows] == pytest.approx([1, 5 / 3, 3.5 / 3])
    assert [row.mase for row in report.rows] == pytest.approx([0.5, 5 / 6, 3.5 / 6])
    assert report.rows[0].skill_vs_last_value == pytest.approx(1 - (3 / 11) ** 0.5)
    assert report.rows[1].skill_vs_last_value == 0
    assert {row.skill_vs_seasonal_naive for row in report.rows} == {None}
    assert report.protocol.num_origins == report.protocol.num_origins_given == 3
    assert judged.stretch.predictions["rnn"].next.tolist() == [[2], [3], [6]]
    assert judged.stretch.targets_PN.tolist() == [[1], [4], [5]]


def test_there_is_no_skill_against_a_last_value_that_is_always_right() -> None:
    report = judged_of(steady(2.0), windows_of(np.ones(4), [2, 3]), known=baselines(naive_error=0.0)).report
    assert report.rows[0].skill_vs_last_value is None
    assert report.rows[0].mase is None


def test_skill_against_the_season_before() -> None:
    """With a season of 2 rows the seasonal naive says 0, 0, 1: off by 1, 4, 4."""
    known = baselines(season=Season(rows=2, found_by="asked for"))
    report = judged_of(steady(2.0), windows_of(VALUES, [2, 3, 4]), known=known).report
    assert [row.name for row in report.rows] == ["rnn", "last value", "seasonal naive (2)", "AR(2)"]
    assert row_of(report, "seasonal naive (2)").rmse == pytest.approx((33 / 3) ** 0.5)
    assert row_of(report, "last value").skill_vs_seasonal_naive == pytest.approx(1 - (11 / 33) ** 0.5)


def test_every_horizon_is_scored_by_itself_and_all_together() -> None:
    """From 10, 11, 12 … one more each row, ours says 1, 2 and 4 more: off by 0, 0 and 1."""
    report = judged_of(steady(1.0, 2.0, 4.0), windows_of(np.arange(10.0, 20), range(2, 8), horizon=3)).report
    ours, naive = row_of(report, "rnn"), row_of(report, "last value")
    assert [score.horizon for score in ours.horizons] == [1, 2, 3]
    assert [score.rmse for score in ours.horizons] == pytest.approx([0, 0, 1], abs=1e-6)
    assert [score.mae for score in naive.horizons] == [1, 2, 3]
    assert [score.mase for score in naive.horizons] == [0.5, 1, 1.5]
    assert [score.skill_vs_last_value for score in ours.horizons] == pytest.approx([1, 1, 2 / 3])
    assert ours.rmse == pytest.approx((1 / 3) ** 0.5)
    assert naive.rmse == pytest.approx((14 / 3) ** 0.5)
    assert naive.mae == 2


def test_a_longer_horizon_than_the_direct_one_is_fed_back() -> None:
    """1 and 2 more directly, then 1 and 2 more than the second of those, then 1 more."""
    test = windows_of(np.arange(10.0, 20), range(2, 9), horizon=2)
    judged = judged_of(steady(1.0, 2.0), test, horizon=5)
    assert judged.report.protocol.num_origins == 4
    assert (judged.report.protocol.horizon, judged.report.protocol.direct_horizon) == (5, 2)
    assert judged.report.rows[0].rmse == pytest.approx(0, abs=1e-5)
    off = judged_of(steady(1.0, 3.0), test, horizon=5).stretch
    assert (off.predictions["rnn"].next - off.targets_PN[:, :1] + 1).tolist() == [[1, 3, 4, 6, 7]] * 4


def test_a_shorter_horizon_is_the_beginning_of_the_longer_one() -> None:
    test = windows_of(np.arange(10.0, 20), range(2, 8), horizon=3)
    long = judged_of(steady(1.0, 3.0, 5.0, intervals="conformal", levels=(0.9,)), test).report
    short = judged_of(steady(1.0, 3.0, 5.0, intervals="conformal", levels=(0.9,)), test, horizon=2).report
    assert short.protocol.num_origins == long.protocol.num_origins
    assert row_of(short, "rnn").horizons == row_of(long, "rnn").horizons[:2]


def test_coverage_and_width_are_counted() -> None:
    """Ours says 2, 3, 6 of 1, 4, 5 and is sure to ± 1.5 and to ± 0.5; the last value is 1, 3 and 1 off."""
    model = steady(2.0, intervals="conformal", levels=(0.5, 0.9))
    model.head.margin.copy_(torch.tensor([0.5, 1.5]).expand(2, 1, 2))
    known = baselines(levels=(0.5, 0.9), margins={"last value": ((1.0, 2.0),)})
    report = judged_of(model, windows_of(VALUES, [2, 3, 4]), known=known).report
    scores = {row.name: [(each.level, each.coverage, each.mean_width) for each in row.intervals] for row in report.rows}
    assert scores["rnn"] == [(0.5, 0, 1), (0.9, 1, 3)]
    np.testing.assert_allclose(scores["last value"], [(0.5, 2 / 3, 2), (0.9, 2 / 3, 4)])
    assert scores["AR(2)"] == []
    assert report.rows[0].horizons[0].intervals == report.rows[0].intervals


def test_fed_back_values_have_no_intervals() -> None:
    model = steady(1.0, 2.0, intervals="conformal", levels=(0.9,))
    known = baselines(levels=(0.9,), margins={"AR(2)": ((1.0,), (2.0,))})
    report = judged_of(model, windows_of(np.arange(10.0, 20), range(2, 9), horizon=2), known=known, horizon=4).report
    for name in ("rnn", "AR(2)"):
        row = row_of(report, name)
        assert [len(score.intervals) for score in row.horizons] == [1, 1, 0, 0]
        assert row.intervals[0].mean_width == np.mean([score.intervals[0].mean_width for score in row.horizons[:2]])


def test_all_rows_are_scored_on_the_same_values() -> None:
    """The season of 5 rows costs the three values with fewer in front of them: 3 of 40 are few, 3 of 20 are not."""
    known = baselines(season=Season(rows=5, found_by="asked for"))
    many = judged_of(steady(2.0), windows_of(np.arange(42.0) ** 2, range(2, 42)), known=known).report
    assert (many.protocol.num_origins, many.protocol.num_origins_given) == (37, 40)
    assert row_of(many, "last value").mae == pytest.approx(np.diff(np.arange(4, 42.0) ** 2)[:37].mean())
    few = judged_of(steady(2.0), windows_of(np.arange(22.0) ** 2, range(2, 22)), known=known).report
    assert few.protocol.num_origins == 20
    assert few.left_out == (
        LeftOut(name="seasonal naive (5)", reason="15% of the values have fewer than 5 rows in front of them"),
    )
    assert few.rows[0].skill_vs_seasonal_naive is None


def test_a_baseline_that_explodes_is_left_out_by_name() -> None:
    known = baselines(autoregressions=(Autoregression(intercept=0.0, coefficients=(0.0, 1e200)),))
    report = judged_of(steady(1.0), windows_of(np.arange(1.0, 20), range(2, 19)), known=known, horizon=3).report
    assert [row.name for row in report.rows] == ["rnn", "last value"]
    assert report.left_out == (LeftOut(name="AR(2)", reason="its predictions are not finite numbers"),)


def test_a_model_that_explodes_is_an_error() -> None:
    with pytest.raises(FitError, match="rnn predicts values that are not finite"):
        judged_of(steady(float("inf")), windows_of(VALUES, [2, 3, 4]))


def test_a_horizon_beyond_the_test_part_is_refused() -> None:
    assert judged_of(steady(2.0), windows_of(VALUES, [2, 3, 4]), horizon=3).report.protocol.num_origins == 1
    with pytest.raises(DataError, match="horizon is 4; the longest stretch to test on has 3 values without a gap"):
        judged_of(steady(2.0), windows_of(VALUES, [2, 3, 4]), horizon=4)


def many_series(num_series: int) -> WindowSet:
    """Series s grows by s each row."""
    values = np.concatenate([s * np.arange(6.0) for s in range(num_series)])
    rows = np.concatenate([6 * s + np.arange(2, 6) for s in range(num_series)])
    return WindowSet(
        values=values[:, None],
        rows=rows,
        window=2,
        series_starts=6 * np.arange(num_series + 1),
        series_numbers=np.arange(num_series),
    )


def test_of_many_series_the_worst_and_the_best_are_shown() -> None:
    """Ours expects 3 more: right for series 3, no better than the last value for series 1 (2 off, not 1) and 0."""
    report = judged_of(steady(3.0), many_series(4), series_ids=["a", "b", "c", "d"]).report
    assert report.protocol.num_series == 4
    assert report.num_series_better == 2
    assert [(each.id, each.rmse, each.rmse_last_value) for each in report.series] == [
        ("a", 3, 0), ("b", 2, 1), ("c", 1, 2), ("d", 0, 3),
    ]  # fmt: skip
    assert [each.skill_vs_last_value for each in report.series] == [None, -1, 0.5, 1]
    assert report.rows[0].rmse == pytest.approx((14 / 4) ** 0.5)


def test_a_report_of_very_many_series_stays_short() -> None:
    report = judged_of(steady(30.0), many_series(50)).report
    ids = [each.id for each in report.series]
    assert len(ids) == 20
    assert ids[:3] == ["series 1", "series 2", "series 3"]
    assert ids[-1] == "series 31"
    assert report.num_series_better == 34


def test_one_series_needs_no_table_of_series() -> None:
    judged = judged_of(steady(2.0), windows_of(VALUES, [2, 3, 4]))
    assert judged.report.series == ()
    assert judged.stretch.series_id == ""


def test_the_stretch_is_the_end_of_the_longest_series_with_its_times() -> None:
    values = np.concatenate((np.arange(300.0), 1000 + np.arange(20.0)))
    times = np.concatenate((np.arange(300), np.arange(20))) * 60
    test = WindowSet(
        values=MemoryRows(values[:, None], times),
        rows=np.concatenate((np.arange(2, 300), np.arange(302, 320))),
        window=2,
        series_starts=np.array([0, 300, 320]),
    )
    stretch = judged_of(steady(1.0), test, series_ids=["long", "short"]).stretch
    assert stretch.series_id == "long"
    assert stretch.time_seconds is not None
    assert stretch.time_seconds.tolist() == [60 * row for row in range(100, 300)]
    assert stretch.targets_PN[:, 0].tolist() == list(range(100, 300))


@pytest.mark.parametrize("num_features", [1, 2])
def test_a_report_comes_back_strictly(num_features: int) -> None:
    model = random_model(num_features=num_features, horizon=2, intervals="conformal", levels=(0.9,))
    values = np.random.default_rng(0).standard_normal((200, num_features))
    parts = Parts(*(WindowSet(values=values, rows=np.arange(*span), window=4, horizon=2) for span in (
        (4, 119), (120, 159), (160, 195))))  # fmt: skip
    known = fit_baselines(parts, levels=(0.9,), season=12)
    report = judged_of(model, parts.test, known=known, horizon=4).report
    assert report.protocol.covariates_known == (num_features == 2)
    raw = msgspec.json.encode(report)
    assert msgspec.json.decode(raw, type=Report) == report
    again = judged_of(model, parts.test, known=msgspec.json.decode(raw, type=Report).baselines, horizon=4).report
    assert again == report
    with pytest.raises(msgspec.ValidationError, match="unknown field `extra`"):
        msgspec.json.decode(raw.replace(b'{"protocol"', b'{"extra":1,"protocol"', 1), type=Report)


@pytest.mark.parametrize("copied", [2**21, 300])
def test_rows_in_a_file_are_judged_like_rows_in_memory(copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers of a few digits, which single precision keeps."""
    monkeypatch.setattr(leak, "COPIED_NUMBERS", copied)
    values = np.random.default_rng(0).integers(0, 1000, (400, 2)).astype(np.float64)
    times = np.arange(400) * 3600
    in_file = FileRows(2, has_times=True)
    in_file.append(values, times)
    model = random_model(num_features=2, intervals="conformal", levels=(0.9,))
    reports = []
    for store in (MemoryRows(values, times), in_file):
        parts = Parts(*(WindowSet(values=store, rows=np.arange(*span), window=4) for span in (
            (4, 200), (200, 300), (300, 400))))  # fmt: skip
        known = fit_baselines(parts, levels=(0.9,))
        assert known.season.rows == 24
        reports.append(judged_of(model, parts.test, known=known).report)
    in_file.close()
    assert reports[0] == reports[1]


def test_the_table_says_it_in_a_few_lines() -> None:
    known = baselines(
        levels=(0.9,),
        margins={"last value": ((2.0,),)},
        left_out=(LeftOut(name="AR(48)", reason="the series is short"),),
    )
    model = steady(2.0, intervals="conformal", levels=(0.9,))
    table = backtest_table(judged_of(model, windows_of(VALUES, [2, 3, 4]), known=known).report)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert table.title == "x, one step ahead, from 3 origins"
    assert cells[""] == ["rnn", "last value", "AR(2)"]
    assert cells["RMSE"][0] == "1"
    assert cells["MASE"][0] == "0.500"
    assert cells["skill"] == ["47.8%", "0.0%", "21.7%"]
    assert cells["90 %\ninterval"] == ["100.0%, 2", "66.7%, 4", "–"]
    assert "AR(48) is left out: the series is short" in str(table.caption)


def test_memory_stays_far_below_all_windows_at_once() -> None:
    """100,000 windows of 48 are 38 MB as they are; torch's own memory, in blocks of its own, is not counted."""
    window, count = 48, 100_000
    values = np.random.default_rng(0).standard_normal(count + 2000).cumsum()[:, None]
    parts = Parts(*(WindowSet(values=values, rows=np.arange(*span), window=window) for span in (
        (window, count), (count, count + 1000), (window, count))))  # fmt: skip
    model = steady(0.0, window=window)
    tracemalloc.start()
    try:
        judged = judged_of(model, parts.test, known=fit_baselines(parts))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert judged.report.protocol.num_origins == count - window
    assert peak < count * window * 8 / 1.5
