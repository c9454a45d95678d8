"""The sequences: two marks, one in each half, and the sum of what they mark."""

import pytest
import torch

from training.memory.adding import BASELINE_MSE, SHORTEST, adding_problem


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("length", [SHORTEST, 9, 50])
def test_two_values_are_marked_one_in_each_half(length: int) -> None:
    x_BT2, _ = adding_problem(500, length, generator())
    assert x_BT2.shape == (500, length, 2)
    marker_BT = x_BT2[:, :, 1]
    assert set(marker_BT.flatten().tolist()) == {0.0, 1.0}
    half = length // 2
    assert marker_BT[:, :half].sum(dim=1).tolist() == [1.0] * 500
    assert marker_BT[:, half:].sum(dim=1).tolist() == [1.0] * 500
    assert (marker_BT.sum(dim=0) > 0).all(), "a place is never marked"


def test_the_target_is_the_sum_of_the_marked_values() -> None:
    x_BT2, target_B1 = adding_problem(50, 7, generator())
    for sequence, (target,) in zip(x_BT2.tolist(), target_B1.tolist(), strict=True):
        marked = [value for value, marker in sequence if marker == 1.0]
        assert target == pytest.approx(sum(marked), abs=1e-6)


def test_values_are_uniform_and_always_answering_one_is_off_by_the_baseline() -> None:
    x_BT2, target_B1 = adding_problem(20_000, 10, generator())
    values = x_BT2[:, :, 0]
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean().item() == pytest.approx(0.5, abs=0.005)
    assert (target_B1 - 1).square().mean().item() == pytest.approx(BASELINE_MSE, rel=0.03)
    assert pytest.approx(0.167, abs=5e-4) == BASELINE_MSE


def test_the_generator_alone_decides_and_moves_on() -> None:
    stream = generator(3)
    first, second = adding_problem(4, 8, stream), adding_problem(4, 8, stream)
    again = adding_problem(4, 8, generator(3))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], second[0])
