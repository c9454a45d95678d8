"""Pictures say what they show: axes, units, legends and the numbers a person judges by."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.training.backtest.samples import baselines
from tests.training.models import steady
from training.backtest import Judged, judge
from training.data import WindowSet
from training.data.rows import MemoryRows
from training.fit import EpochMetrics
from training.pictures import backtest_picture, loss_picture, png


def judged_of(*, horizon: int | None = None, levels: tuple[float, ...] = (0.5, 0.9), **options: Any) -> Judged:
    values = 40 + np.random.default_rng(0).standard_normal(300).cumsum()
    times = np.arange(300) * 3600 if options.get("has_times") else None
    test = WindowSet(
        values=MemoryRows(values[:, None], times),
        rows=np.arange(2, 299),
        window=2,
        horizon=2,
        series_starts=np.array(options.get("series_starts", [0, 300])),
    )
    if len(options.get("series_starts", ())) > 2:
        test = WindowSet(
            values=values[:, None], rows=np.array([*range(2, 90), *range(102, 299)]), window=2, horizon=2,
            series_starts=np.array([0, 100, 300]),
        )  # fmt: skip
    intervals: dict[str, Any] = {"intervals": "conformal", "levels": levels} if levels else {}
    model = steady(0.1, 0.2, **intervals)
    known = baselines(levels=levels, margins={"last value": ((0.7, 1.6), (1.0, 2.3))} if levels else {})
    return judge(model, test, known, target="passengers", source="here", horizon=horizon, series_ids=["a", "b"])


def labels_of(figure: Figure) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes if axes.axison]


def legends_of(figure: Figure) -> list[list[str]]:
    found = [axes.get_legend() for axes in figure.axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in found if legend is not None]


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_backtest_one_step_ahead() -> None:
    judged = judged_of(horizon=1)
    figure = backtest_picture(judged)
    assert labels_of(figure) == [
        ("", "passengers"),
        ("row (the last 200 of 297 origins)", "prediction - truth,\npassengers"),
        ("RMSE, passengers, one step ahead", ""),
        ("values inside their interval, % (beside: at 90 %)", ""),
    ]
    assert legends_of(figure) == [
        ["90 % interval", "50 % interval", "truth", "rnn, one step ahead"],
        ["last value", "rnn"],
        ["promised: 50 %", "promised: 90 %"],
    ]
    row = judged.report.rows[0]
    assert row.mase is not None
    said = f"{row.rmse:.4g} (MAE {row.mae:.4g}, MASE {row.mase:.3g})"
    inside = f"{100 * row.intervals[1].coverage:.1f} % inside, mean width {row.intervals[1].mean_width:.4g}"
    assert texts_of(figure)[0] == said
    assert inside in texts_of(figure)
    assert "no intervals" in texts_of(figure)
    assert figure.get_suptitle().startswith("rnn, window 2, one step ahead, 297 origins, skill ")


def test_what_is_drawn_is_what_was_said() -> None:
    judged = judged_of(horizon=1)
    above = backtest_picture(judged).axes[0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in above.lines}
    np.testing.assert_array_equal(drawn["truth"], judged.stretch.targets_PN[:, 0])
    said = judged.stretch.predictions["rnn"]
    np.testing.assert_array_equal(drawn["rnn, one step ahead"], said.next[:, 0])
    assert said.lower is not None
    wide, narrow = (band.get_paths()[0].vertices for band in above.collections)
    assert np.asarray(wide)[:, 1].min() == pytest.approx(said.lower[:, 0, 1].min())
    assert np.asarray(narrow)[:, 1].min() == pytest.approx(said.lower[:, 0, 0].min())


def test_with_more_steps_ahead_the_error_by_horizon_is_drawn() -> None:
    judged = judged_of(horizon=5)
    figure = backtest_picture(judged)
    assert ("steps ahead of the last origin", "passengers") in labels_of(figure)
    assert ("steps ahead", "RMSE, passengers") in labels_of(figure)
    assert ["90 % interval", "50 % interval", "truth", "rnn", "fed back from here on"] in legends_of(figure)
    growth = next(axes for axes in figure.axes if axes.get_xlabel() == "steps ahead")
    assert [str(line.get_label()) for line in growth.lines] == ["rnn", "last value", "AR(2)"]
    expected = [score.rmse for score in judged.report.rows[1].horizons]
    np.testing.assert_array_equal(np.asarray(growth.lines[1].get_ydata()), expected)


def test_without_intervals_there_is_no_band_and_no_coverage() -> None:
    figure = backtest_picture(judged_of(levels=(), horizon=1))
    assert legends_of(figure)[0] == ["truth", "rnn, one step ahead"]
    assert not figure.axes[0].collections
    assert len(labels_of(figure)) == 3


def test_dates_are_on_the_axis_where_there_are_any() -> None:
    figure = backtest_picture(judged_of(has_times=True, horizon=1))
    assert figure.axes[1].get_xlabel() == "time, UTC (the last 200 of 297 origins)"
    first = np.asarray(figure.axes[0].lines[0].get_xdata())[0]
    assert first == datetime.fromtimestamp((2 + 97) * 3600, UTC)


def test_of_many_series_the_one_that_is_drawn_is_named() -> None:
    figure = backtest_picture(judged_of(series_starts=[0, 100, 300], horizon=1))
    assert figure.axes[1].get_xlabel() == "row (series b, its last 197 origins)"


def test_a_picture_becomes_a_png() -> None:
    assert png(backtest_picture(judged_of())).startswith(b"\x89PNG")


def test_the_losses_over_the_epochs() -> None:
    history = [
        EpochMetrics(
            epoch=epoch,
            step=epoch,
            train_loss=1 / epoch,
            validation_loss=2 / epoch,
            validation_rmse=1,
            learning_rate=0.1,
            is_best=epoch < 3,
        )
        for epoch in (1, 2, 3)
    ]
    figure = loss_picture(history)
    assert labels_of(figure) == [("epoch", "Huber loss, scaled units")]
    assert legends_of(figure) == [["fit", "validation", "weights kept (epoch 2)"]]
    assert np.asarray(figure.axes[0].lines[1].get_ydata()).tolist() == [2, 1, 2 / 3]
