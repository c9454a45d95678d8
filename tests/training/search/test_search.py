"""A search over a generated series: what it looks at, what it keeps, and what it prints."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import optuna
import pytest

from training.__main__ import main, parser
from training.fit import EpochMetrics, Fit
from training.search.report import SearchReport, search_picture
from training.search.space import suggest
from training.search.study import JOURNAL, open_study
from training.transform import TRANSFORMS

ROWS, TEST_ROWS = 200, 40


def write_wave(path: Path, *, poison: bool = False) -> Path:
    """A noisy sine; the test part as it is, or numbers that would spoil any fit that saw them."""
    generator = np.random.default_rng(0)
    values = 10 + 5 * np.sin(np.arange(ROWS) / 6) + 0.3 * generator.standard_normal(ROWS)
    if poison:
        values[-TEST_ROWS:] = generator.uniform(-500, 500, TEST_ROWS)
    path.write_text("y\n" + "\n".join(f"{value:.6f}" for value in values) + "\n")
    return path


def search(data: Path, out: Path, *more: str, trials: int = 3) -> int:
    options = ["search", "--data", str(data), "--test", str(TEST_ROWS), "--epochs", "2", "--trials", str(trials)]
    return main([*options, "--out", str(out), "--quiet", *more])


def found(out: Path) -> SearchReport:
    return msgspec.json.decode((out / "search.json").read_bytes(), type=SearchReport)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    assert search(write_wave(folder / "wave.csv"), folder / "out") == 0
    return folder


def test_the_best_by_validation_is_chosen(searched: Path) -> None:
    report = found(searched / "out")
    ended = {trial.number: trial.validation_rmse for trial in report.trials if trial.state == "complete"}
    assert len(report.trials) == 3
    assert report.validation_rmse == ended[report.best] == min(value for value in ended.values() if value is not None)


def test_the_test_part_has_no_say(searched: Path, tmp_path: Path) -> None:
    """With nonsense for its values every trial comes out the same."""
    assert search(write_wave(tmp_path / "wave.csv", poison=True), tmp_path / "out") == 0
    for sound, poisoned in zip(found(searched / "out").trials, found(tmp_path / "out").trials, strict=True):
        assert sound == poisoned


def test_the_command_fits_what_was_chosen(searched: Path, tmp_path: Path) -> None:
    """The command that is printed runs, and ends with the validation error that the search saw."""
    report = found(searched / "out")
    words = shlex.split(report.command)
    assert words[:4] == ["python", "-m", "training", "fit"]
    options = [*words[3:-2], "--out", str(tmp_path / "run"), "--quiet"]
    assert main(options) == 0
    epochs = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    kept = [epoch for epoch in epochs if epoch["is_best"]][-1]
    assert kept["validation_rmse"] == pytest.approx(report.validation_rmse, rel=1e-9)


def test_a_second_call_goes_on(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = found(searched / "out").trials
    assert search(searched / "wave.csv", searched / "out", trials=4) == 0
    after = found(searched / "out").trials
    assert after[: len(before)] == before
    assert len(after) == 4
    assert "fit the best with:" in capsys.readouterr().out


def test_a_search_in_two_goes_tries_what_it_would_have_tried_in_one(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the first go was interrupted in the middle of its second trial."""
    run_epoch = Fit.run_epoch
    calls = iter(range(4))

    def interrupted(fit: Fit) -> EpochMetrics:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return run_epoch(fit)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "run_epoch", interrupted)
        assert search(searched / "wave.csv", tmp_path / "out") == 130
    assert search(searched / "wave.csv", tmp_path / "out") == 0
    trials = found(tmp_path / "out").trials
    asked = [trial.options for trial in trials]
    assert asked == [trial.options for trial in found(searched / "out").trials[:3]]
    assert [trial.validation_rmse for trial in trials] == [
        trial.validation_rmse for trial in found(searched / "out").trials[:3]
    ]
    assert len({tuple(options) for options in asked}) == 3


def test_no_trial_begins_when_the_minutes_are_over(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minutes = iter([0.0, 1.0, 1.9, 2.0])
    monkeypatch.setattr("training.search.study.time", SimpleNamespace(monotonic=lambda: 60 * next(minutes)))
    assert search(searched / "wave.csv", tmp_path / "out", "--minutes", "2", trials=50) == 0
    assert len(found(tmp_path / "out").trials) == 2


def test_a_choice_that_the_series_does_not_bear_is_not_the_end(searched: Path, tmp_path: Path) -> None:
    """A window as long as the part to fit on; the others are tried all the same."""
    assert search(searched / "wave.csv", tmp_path / "out", "--windows", "5,150", "--seed", "2", trials=6) == 0
    trials = found(tmp_path / "out").trials
    for trial in trials:
        window = trial.options[trial.options.index("--window") + 1]
        assert (trial.error is None) == (window == "5")
        assert trial.error is None or "no window of 150 rows" in trial.error
    assert {trial.state for trial in trials} == {"complete", "pruned"}


def test_another_question_needs_another_folder(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [path.read_bytes() for path in sorted((searched / "out").glob("search.*"))]
    assert search(searched / "wave.csv", searched / "out", "--cells", "rnn") == 1
    error = capsys.readouterr().err
    assert "choose another folder" in error
    assert error.count("\n") == 1
    assert [path.read_bytes() for path in sorted((searched / "out").glob("search.*"))] == kept
    assert search(searched / "wave.csv", searched / "out", trials=1) == 0


def test_the_picture_has_its_labels(searched: Path) -> None:
    assert (searched / "out" / "search.png").read_bytes().startswith(b"\x89PNG")
    asked = json.loads((searched / "out" / "search.json").read_text())["command"]
    assert asked
    study = optuna.load_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(searched / "out" / JOURNAL))
        ),
    )
    figure = search_picture(study, target="y")
    main_axes, *by_choice = figure.axes
    assert main_axes.get_xlabel() == "trial"
    assert main_axes.get_ylabel() == "validation RMSE, units of y"
    legend = main_axes.get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[:3] == ["best so far", "trial", "ended early"]
    assert shown[3:] in ([], ["ended early, further up"])
    assert [axes.get_xlabel() for axes in by_choice] == ["transform", "cell", "hidden", "learning-rate"]
    assert by_choice[0].get_ylabel() == "validation RMSE,\nunits of y"
    trials = [line for line in main_axes.lines if line.get_label() == "trial"]
    assert np.size(trials[0].get_xdata()) >= 3


def study_of(values: list[float], pruned: list[float]) -> optuna.Study:
    """Trials that came to these ends, and some ended early where they stood."""
    study = optuna.create_study()
    params: dict[str, str | int | float] = {
        "transform": "difference",
        "cell": "gru",
        "window": 5,
        "hidden": 16,
        "learning-rate": 0.01,
    }
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution([value]) for name, value in params.items()
    }
    for value in values:
        study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
    for value in pruned:
        state = optuna.trial.TrialState.PRUNED
        study.add_trial(
            optuna.trial.create_trial(
                state=state, params=params, distributions=distributions, intermediate_values={20: value}
            )
        )
    return study


def test_a_trial_that_was_far_off_is_marked_at_the_edge() -> None:
    figure = search_picture(study_of([1.0], [1.01, 30.0]), target="y")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()][2:] == ["ended early", "ended early, further up"]
    places = {str(line.get_label()): list(np.asarray(line.get_ydata())) for line in figure.axes[0].lines}
    assert places["ended early"] == [1.01]
    assert places["ended early, further up"] == [2.0]


@pytest.mark.parametrize("shared", [["--intervals", "normalized"], ["--scaling", "window", "--precision", "float64"]])
def test_what_all_trials_share_reaches_every_one(searched: Path, tmp_path: Path, shared: list[str]) -> None:
    assert search(searched / "wave.csv", tmp_path / "out", *shared, trials=4) == 0
    trials = found(tmp_path / "out").trials
    assert len(trials) == 4
    assert not any(trial.error for trial in trials)
    for word in shared:
        assert word in found(tmp_path / "out").command


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--precision", "mixed", "--device", "cpu", "--cells", "lstm,nn.lstm"], "torch's own cells take it on a GPU"),
        (["--trials", "0"], "trials is 0; it must be at least 1"),
        (["--minutes", "0"], "minutes is 0.0; it must be above 0"),
        (["--cells", "lstm,transformer"], "cells has 'transformer'; it takes rnn, lstm"),
        (["--windows", "five"], "windows is 'five'; it must be whole numbers with commas between"),
        (["--windows", "500"], "the fit part has no window of 500 rows"),
        (["--seed", "-1"], "seed is -1; it must be from 0"),
        (["--horizon", "0"], "horizon is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    data = write_wave(tmp_path / "wave.csv")
    assert main(["search", "--data", str(data), "--out", str(tmp_path / "out"), "--quiet", *more]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_every_choice_is_one_that_fit_takes(tmp_path: Path) -> None:
    """Whatever the space gives, fit's own parser and checks accept."""
    from training.options import fit_request  # noqa: PLC0415 (beside its one use)

    study = open_study(tmp_path / "study", asked="")
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    cells = ("rnn", "lstm", "gru", "gru-reset-after", "nn.lstm", "nn.gru")
    seen = set()
    for _ in range(40):
        trial = study.ask()
        words = suggest(trial, cells=cells, windows=(1, 5, 48))
        request = fit_request(parser().parse_args(["fit", "--data", "counting", *words, "--out", "x"]))
        seen.add(request.model.transform)
        study.tell(trial, 1.0)
    assert seen == set(TRANSFORMS)
