import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.transform import TRANSFORMS, Transform, moments

M, T, F = 40, 6, 2
KINDS = tuple(TRANSFORMS)

# Scales are kept in single precision.
SINGLE = 1e-6


@pytest.fixture
def windows() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal((50, -3), (20, 0.5), (M, T, F))


@pytest.fixture
def targets() -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(55, 30, (M, 1))


def fitted(kind: str, windows: NDArray[np.float64], targets: NDArray[np.float64]) -> Transform:
    transform = TRANSFORMS[kind](F)
    transform.fit(windows, targets)
    return transform.double()


def expected_input(kind: str, windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the cells should see, [M, T, C], the scales taken again from the definition."""
    if kind == "value-and-difference":
        both = [expected_input(each, windows) for each in ("standardize", "difference")]
        return np.concatenate(both, axis=2)
    if kind == "standardize":
        raw = scaled_of = windows
    elif kind == "difference":
        raw = np.zeros_like(windows)
        for t in range(1, T):
            raw[:, t] = windows[:, t] - windows[:, t - 1]
        scaled_of = raw[:, 1:]
    else:
        raw = windows - windows[:, [T - 1]]
        scaled_of = raw[:, :-1]
    flat = scaled_of.reshape(-1, F)
    return np.asarray((raw - flat.mean(axis=0)) / flat.std(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_encode_is_its_definition(kind: str, windows: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
    x_BTF, anchor_B1 = fitted(kind, windows, targets).encode(torch.from_numpy(windows))
    expected = expected_input(kind, windows)
    np.testing.assert_allclose(x_BTF.numpy(), expected, atol=SINGLE * np.abs(expected).max() * 10)
    anchor = np.zeros((M, 1)) if kind == "standardize" else windows[:, -1, :1]
    np.testing.assert_array_equal(anchor_B1.numpy(), anchor)


@pytest.mark.parametrize("kind", KINDS)
def test_decode_undoes_encode_target(kind: str, windows: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
    transform = fitted(kind, windows, targets)
    _, anchor_B1 = transform.encode(torch.from_numpy(windows))
    y_B1 = transform.encode_target(torch.from_numpy(targets), anchor_B1)
    np.testing.assert_allclose(transform.decode(y_B1, anchor_B1).numpy(), targets, rtol=1e-12)
    assert abs(y_B1.mean().item()) < SINGLE * 100
    assert y_B1.std(correction=0).item() == pytest.approx(1, abs=SINGLE)


def test_the_first_difference_is_zero() -> None:
    transform = TRANSFORMS["difference"](1)
    x_BTF, _ = transform.encode(torch.tensor([[[1e6], [1e6 + 1], [1e6 + 3]]]))
    assert x_BTF.flatten().tolist() == [0, 1, 2]


def test_a_zero_that_was_seen_is_not_nothing_seen() -> None:
    """The second value's difference is to the first, also where that was 0."""
    transform = TRANSFORMS["difference"](1)
    state = transform.initial_state(torch.zeros(1, 1))
    seen = []
    for value in (0.0, 5.0, 7.0):
        x_BF, _, state = transform.step(torch.tensor([[value]]), state)
        seen.append(x_BF.item())
    assert seen == [0, 5, 2]


@pytest.mark.parametrize(
    ("size", "deviation", "scale"),
    [(0.0, 0.0, 1.0), (1e6, 0.0, 1.0), (1e6, 0.9e-6, 1.0), (1e6, 1.1e-6, 1.1e-6), (1.0, 0.5, 0.5)],
)
def test_a_scale_below_a_millionth_of_a_millionth_of_the_size_becomes_one(
    size: float, deviation: float, scale: float
) -> None:
    """The deviation of two values a ± d is d; the limit is 1e-12 of the largest value."""
    values = size + deviation * np.array([[-1.0], [1.0]])
    # Two float64 near 1e6 are at least 1.2e-10 apart.
    assert moments(values)[1].item() == pytest.approx(scale, rel=1e-3)


def test_counting_has_constant_differences_and_a_scale_of_one() -> None:
    transform = TRANSFORMS["difference"](1)
    windows = (np.arange(20)[:, None] + np.arange(5))[:, :, None].astype(np.float64)
    transform.fit(windows, windows[:, -1, :1] + 1)
    assert (transform.scale.item(), transform.target_scale.item()) == (1, 1)
    assert (transform.mean.item(), transform.target_mean.item()) == (1, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_does_not_see_its_batch(kind: str, windows: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
    transform = fitted(kind, windows, targets)
    together, _ = transform.encode(torch.from_numpy(windows))
    alone = torch.cat([transform.encode(torch.from_numpy(window[None]))[0] for window in windows])
    assert torch.equal(together, alone)
