"""The table and the picture say what the trials say."""

import numpy as np
import pytest

from training.memory.contest import MemoryOptions, Score, Trial
from training.memory.report import MemoryReport, memory_picture, memory_table


def trial(cell: str, length: int, *errors: float) -> Trial:
    scores = [Score(step=100 * i, mse=mse) for i, mse in enumerate(errors)]
    return Trial(cell=cell, length=length, num_parameters=4321, cpu_seconds=12.3, scores=scores)


@pytest.fixture
def report() -> MemoryReport:
    return MemoryReport(
        options=MemoryOptions(cells=("rnn", "lstm", "gru"), lengths=(50, 200), steps=200, seed=7),
        trials=[
            trial("rnn", 50, 1.0, 0.1, 0.005),
            trial("lstm", 50, 1.0, 0.004, 0.001),
            trial("gru", 50, 1.0, 0.005, 0.002),
            trial("rnn", 200, 1.0, 0.17, 0.166),
            trial("lstm", 200, 1.0, 0.1, 0.003),
            trial("gru", 200, 1.0, 0.1, 0.02),
        ],
        library_versions={"torch": "9.8"},
    )


def test_the_table_has_a_row_for_each_trial_and_states_the_budget(report: MemoryReport) -> None:
    table = memory_table(report)
    assert "200 steps of 64 new sequences each, hidden size 64" in table
    assert "0.167; at most 0.01 counts as remembering" in table
    assert "seed 7" in table
    assert "torch 9.8" in table
    rows = [line for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert rows == [
        "| 50 | rnn | 4321 | 0.005 | 200 | yes | 12 |",
        "| 50 | lstm | 4321 | 0.001 | 100 | yes | 12 |",
        "| 50 | gru | 4321 | 0.002 | 100 | yes | 12 |",
        "| 200 | rnn | 4321 | 0.17 | – | no | 12 |",
        "| 200 | lstm | 4321 | 0.003 | 200 | yes | 12 |",
        "| 200 | gru | 4321 | 0.02 | – | no | 12 |",
    ]


def test_the_picture_has_labels_legends_and_titles_that_say_who_remembers(report: MemoryReport) -> None:
    figure = memory_picture(report)
    left, right = figure.axes
    assert left.get_title() == "T = 50\nrnn and lstm and gru remember"
    assert right.get_title() == "T = 200\nlstm remembers"
    assert left.get_ylabel() == "mean squared error, held-out sequences (log scale)"
    assert {panel.get_xlabel() for panel in figure.axes} == {"training steps"}
    assert {panel.get_yscale() for panel in figure.axes} == {"log"}
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "rnn: 0.17 at the end",
        "lstm: 0.003 at the end",
        "gru: 0.02 at the end",
        "always 1: 0.167",
        "remembers: 0.01",
    ]
    suptitle = figure.get_suptitle()
    assert "200 steps of 64 sequences" in suptitle


def test_the_lines_are_the_scores_and_the_kinds_have_their_own_colours(report: MemoryReport) -> None:
    panel = memory_picture(report).axes[1]
    rnn, lstm, gru, baseline, limit = panel.get_lines()
    assert np.asarray(rnn.get_xdata()).tolist() == [0, 100, 200]
    assert np.asarray(lstm.get_ydata()).tolist() == [1.0, 0.1, 0.003]
    assert set(np.asarray(baseline.get_ydata()).tolist()) == {report.baseline_mse}
    assert set(np.asarray(limit.get_ydata()).tolist()) == {0.01}
    assert len({line.get_color() for line in (rnn, lstm, gru)}) == 3


def test_nobody_is_named_where_nobody_remembers(report: MemoryReport) -> None:
    forgetful = MemoryReport(
        options=MemoryOptions(cells=("rnn",), lengths=(9,)),
        trials=[trial("rnn", 9, 0.2)],
        library_versions={"torch": "9.8"},
    )
    (panel,) = memory_picture(forgetful).axes
    assert panel.get_title() == "T = 9\nnobody remembers"
