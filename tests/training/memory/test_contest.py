"""A trial: the same sequences for everybody, the budget kept, and learning that can be seen."""

import msgspec
import pytest
import torch
from torch import Tensor

from training.errors import OptionError
from training.memory.adding import BASELINE_MSE, adding_problem
from training.memory.contest import Adder, MemoryOptions, Score, Trial, run_trial

SMALL = MemoryOptions(steps=20, batch_size=8, hidden_size=4, held_out=40, evaluations=4)


def test_the_error_is_told_before_the_first_step_and_after_the_last() -> None:
    seen: list[tuple[int, float]] = []
    trial = run_trial("gru", 8, SMALL, lambda step, mse: seen.append((step, mse)))
    assert [score.step for score in trial.scores] == [0, 5, 10, 15, 20]
    assert [step for step, _ in seen] == list(range(1, 21))
    assert seen[-1][1] == trial.scores[-1].mse == trial.mse
    assert (trial.cell, trial.length) == ("gru", 8)
    assert trial.num_parameters == 3 * (4 * (2 + 4) + 4) + 5
    assert trial.cpu_seconds > 0


@pytest.mark.parametrize("evaluations", [1, 3, 7, 20, 100])
def test_the_last_step_is_always_told(evaluations: int) -> None:
    scores = run_trial("rnn", 4, msgspec.structs.replace(SMALL, evaluations=evaluations)).scores
    assert scores[-1].step == 20
    assert len(scores) == 1 + min(evaluations, 20)


def test_every_kind_sees_the_same_new_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[Tensor]] = []

    def keep(num_sequences: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BT2, target_B1 = adding_problem(num_sequences, length, generator)
        drawn[-1].append(x_BT2)
        return x_BT2, target_B1

    monkeypatch.setattr("training.memory.contest.adding_problem", keep)
    for cell in ("rnn", "lstm"):
        drawn.append([])
        run_trial(cell, 8, SMALL)
    ours, theirs = drawn
    assert [len(x) for x in ours] == [40] + [8] * 20, "held out once, then a batch each step"
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert len({x.sum().item() for x in ours}) == 21, "a batch came twice"


def test_a_seed_repeats_a_trial_and_another_does_not() -> None:
    def scores(seed: int) -> list[Score]:
        torch.manual_seed(seed + 17)  # torch's own stream is neither used nor moved
        before = torch.random.get_rng_state()
        found = run_trial("lstm", 8, msgspec.structs.replace(SMALL, seed=seed)).scores
        assert torch.equal(torch.random.get_rng_state(), before)
        return found

    assert scores(0) == scores(0)
    assert scores(0) != scores(1)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_short_sum_is_learnt(cell: str) -> None:
    options = MemoryOptions(steps=250, batch_size=32, hidden_size=16, learning_rate=0.01, held_out=500, evaluations=1)
    trial = run_trial(cell, 4, options)
    assert trial.scores[0].mse > BASELINE_MSE / 2
    assert trial.mse < BASELINE_MSE / 3


def test_the_answer_comes_from_the_last_step_of_the_cells() -> None:
    """A change at any step, the first and the last among them, changes the answer; one row does not see another."""
    torch.manual_seed(0)
    model = Adder("gru", 8, 6)
    x_BT2 = torch.rand(2, 6, 2)
    with torch.no_grad():
        before = model(x_BT2)
        assert before.shape == (2, 1)
        for t in range(6):
            changed = x_BT2.clone()
            changed[0, t, 0] += 0.5
            after = model(changed)
            assert after[0] != before[0]
            assert torch.equal(after[1], before[1])


def test_remembering_is_judged_at_the_end_and_its_first_step_is_kept() -> None:
    def trial(*errors: float) -> Trial:
        scores = [Score(step=10 * i, mse=mse) for i, mse in enumerate(errors)]
        return Trial(cell="gru", length=8, num_parameters=1, cpu_seconds=0.0, scores=scores)

    assert (trial(0.2, 0.01, 0.003).first_step, trial(0.2, 0.01, 0.003).remembers) == (10, True)
    assert (trial(0.2, 0.009, 0.02).first_step, trial(0.2, 0.009, 0.02).remembers) == (10, False)
    assert (trial(0.2, 0.1).first_step, trial(0.2, 0.1).remembers) == (None, False)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", 0, "steps is 0; it must be at least 1"),
        ("batch_size", 0, "batch_size is 0; it must be at least 1"),
        ("hidden_size", -1, "hidden_size is -1; it must be at least 1"),
        ("held_out", 0, "held_out is 0"),
        ("evaluations", 0, "evaluations is 0"),
        ("threads", 0, "threads is 0"),
        ("learning_rate", 0.0, "learning_rate is 0.0; it must be above 0 and finite"),
        ("clip_norm", float("nan"), "clip_norm is nan; it must be above 0 and finite"),
        ("seed", -1, "seed is -1; it must be from 0 to"),
        ("cells", ("lstm", "nn.lstm"), "cells holds 'nn.lstm'; it must be one of rnn, lstm, gru, gru-reset-after"),
        ("cells", ("lstm", "lstm"), "cells is 'lstm,lstm'; it must name at least one, and each once"),
        ("cells", (), "cells is ''"),
        ("lengths", (50, 3), "lengths holds 3; it must be at least 4"),
        ("lengths", (8, 8), "lengths is '8,8'"),
    ],
)
def test_what_cannot_be_run_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        msgspec.structs.replace(SMALL, **{field: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
