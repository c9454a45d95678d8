import numpy as np

from training.data import DataOptions, load


def test_counting_is_runs_of_consecutive_integers() -> None:
    dataset = load(DataOptions(source="counting"))
    assert len(dataset.series) > 1
    assert all((np.diff(series.values[:, 0]) == 1).all() for series in dataset.series)


def test_counting_steps_holds_every_step_from_several_starts() -> None:
    dataset = load(DataOptions(source="counting-steps"))
    runs = {(series.values[0, 0], np.diff(series.values[:, 0])[0]) for series in dataset.series}
    assert {step for _, step in runs} == set(range(-3, 4))
    assert len({start for start, _ in runs}) > 1
    assert all(len(set(np.diff(series.values[:, 0]))) == 1 for series in dataset.series)
