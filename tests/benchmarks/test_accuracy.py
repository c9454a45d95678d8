"""What may be looked at, which row counts, and when a kept result is out of date; nothing is fitted."""

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.ours import INPUTS, RECIPES, Choice, is_better, largest_batch, words_of
from benchmarks.accuracy.series import Series, read_series
from benchmarks.accuracy.store import Store
from benchmarks.accuracy.table import Contest, Row, Score, score_of, tolerance, verdict_lines, window_lines
from training.options import add_parser, fit_request


@pytest.fixture
def series() -> Series:
    return Series(name="walk", path=Path("walk.csv"), values=np.arange(1000.0) ** 1.1, num_validation=100, num_test=200)


def test_folds_end_where_the_test_part_begins_and_leave_no_gap(series: Series) -> None:
    folds = series.folds()
    for before, after in pairwise(folds):
        assert len(before.values) == len(after.values) - after.num_test
    assert len(folds[-1].values) == len(series.values) - series.num_test
    for fold in folds:
        np.testing.assert_array_equal(fold.values, series.values[: len(fold.values)])
        assert fold.num_fit > 0
        assert fold.num_validation > 0


def test_a_known_series_is_cut_by_its_protocol_and_others_as_fit_cuts(tmp_path: Path) -> None:
    for name, parts in (("nyc_taxi", (600, 4320)), ("other", (1032, 2064))):
        path = tmp_path / f"{name}.csv"
        path.write_text("value\n" + "".join(f"{value}\n" for value in range(10320)))
        found = read_series(path)
        assert (found.num_validation, found.num_test) == parts
        assert found.num_fit + sum(parts) == 10320


def test_a_score_is_of_the_test_part_alone(series: Series) -> None:
    score = score_of(series.tested + 3, series)
    assert (score.rmse, score.mae) == (3, 3)
    assert score.mase == pytest.approx(3 / np.diff(series.values[:700]).mean())


def row(name: str, rmse: float, **rest: Any) -> Row:
    return Row(name=name, scores=[Score(rmse=rmse, mae=1, mase=1, coverage=0.9, width=rmse)], **rest)


def contest(series: Series, window: int, *rows: Row, fold_error: float = 0.0) -> Contest:
    choice = Choice(inputs=INPUTS[0], errors={INPUTS[0].name: fold_error}, intervals="conformal", coverages={})
    return Contest(series=series, window=window, choice=choice, rows=rows)


def test_the_long_autoregression_counts_where_it_looks_back_as_far(series: Series) -> None:
    rows = [row("lstm", 2, is_ours=True), row("gru", 9, is_ours=True, is_chosen=True), row("last value", 8)]
    rows += [row("AR(48)", 4), row("library", 7)]
    assert contest(series, 5, *rows, row("AR(5)", 6)).best_other.name == "AR(5)"
    assert contest(series, 48, *rows).best_other.name == "AR(48)"
    verdict = list(verdict_lines([contest(series, 48, *rows)], {("walk", 48): 5.0}))[2]
    assert verdict == "| walk, 48 | gru 9 (limit 5) | AR(48) 4 | 2.250 | 90.0%, 90 ± 4.2 % | 2.250 |"


def test_coverage_may_be_off_by_two_points_or_two_standard_errors() -> None:
    assert tolerance(4320) == 0.02
    assert tolerance(100) == pytest.approx(0.06)


def test_a_kept_result_is_read_back_until_something_else_is_asked(tmp_path: Path) -> None:
    store = Store(tmp_path / "kept")
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(len(made))
        return {"n": made[-1]}

    assert store.get("a/b", {"seed": 0}, make) == {"n": 0}
    assert Store(tmp_path / "kept").get("a/b", {"seed": 0}, make) == {"n": 0}
    assert store.find("a/b", {"seed": 1}) is None
    assert store.get("a/b", {"seed": 1}, make) == {"n": 1}
    assert store.find("never", {}) is None


def test_every_recipe_asks_for_options_that_a_fit_takes() -> None:
    parser = add_parser(argparse.ArgumentParser().add_subparsers())
    for recipe in RECIPES.values():
        for inputs in recipe.inputs:
            for intervals in inputs.intervals:
                options = replace(recipe, intervals=intervals).options(3000, inputs)
                request = fit_request(parser.parse_args(["--data", "x.csv", "--out", "x", *words_of(options)]))
                assert (request.model.intervals, request.model.linear_skip) == (intervals, inputs.skip)
                assert request.fit.augment == inputs.augment
                assert (request.fit.loss_steps > 1) == (inputs.knows_each_step and recipe.loss_steps_share > 0)


def test_inputs_must_be_better_by_more_than_chance() -> None:
    default = np.array([-1.0, -0.5, -0.2, -0.4])
    assert is_better(default - 0.01, default)
    assert is_better(default - (0.3, 0.1, 0.0, 0.1), default)
    assert not is_better(default - (0.3, -0.1, -0.1, 0.1), default)
    assert not is_better(default, default)
    for recipe in RECIPES.values():
        assert len({inputs.slug for inputs in recipe.inputs}) == len({inputs.name for inputs in recipe.inputs})
        assert len({inputs.slug for inputs in recipe.inputs}) == len(recipe.inputs)


def test_a_batch_leaves_enough_steps_for_an_epoch() -> None:
    assert [largest_batch(count) for count in (10, 640, 2560, 10**6)] == [32, 32, 128, 256]


def test_an_open_window_is_chosen_on_the_folds_for_ours_and_on_the_test_part_for_the_others(series: Series) -> None:
    short = contest(series, 5, row("lstm", 3, is_ours=True, is_chosen=True), row("library", 2), fold_error=-0.2)
    long = contest(series, 48, row("gru", 5, is_ours=True, is_chosen=True), row("AR(48)", 4), fold_error=-0.3)
    *_, line, blank = window_lines([short, long], {})
    assert line == "| walk | 48, gru 5 | library 2, window 5 | 2.500 |"
    assert not blank
    assert len(list(window_lines([short, long], {("walk", 5): 1.0, ("walk", 48): 1.0}))) == 3
