"""What a request may contain: an array of the right shape, or InvalidRequest naming field, value and limit."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from export.artifact.limits import Tolerance
from export.artifact.manifest import Gate, Graph, Manifest, PlanEntry, Tensor, Transform
from server.errors import InvalidRequest
from server.validation import check_finite, check_future, check_horizon, check_windows

WINDOW = 4


def make_manifest(*features: str, direct_horizon: int = 1) -> Manifest:
    return Manifest(
        schema_version=1,
        name="m",
        version=1,
        cell="gru",
        window=WINDOW,
        hidden_size=2,
        num_layers=1,
        features=list(features),
        transform=Transform(kind="standardize", scale=1.0),
        direct_horizon=direct_horizon,
        opset=20,
        ir_version=9,
        graphs={
            "window": Graph(
                file="window.onnx",
                lowering="unrolled",
                inputs=[Tensor(name="window", shape=["batch", WINDOW, len(features)])],
                outputs=[Tensor(name="next", shape=["batch", 1])],
            )
        },
        plan=[PlanEntry(max_batch=None, graph="window")],
        not_steppable="a test",
        tolerance=Tolerance(),
        gate=Gate(worst_abs_error=0.0, worst_share_of_limit=0.0, batches=[1]),
        fitted_on={},
        backtest={},
        libraries={},
        files={},
    )


ONE = make_manifest("value")
THREE = make_manifest("load", "temperature", "holiday")


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("manifest", "shape"), [(ONE, (2, 4)), (ONE, (2, 4, 1)), (THREE, (2, 4, 3)), (THREE, (1, 4, 3))]
)
def test_good_windows(manifest: Manifest, shape: tuple[int, ...]) -> None:
    assert check_windows("windows", zeros(*shape), manifest).shape == (shape[0], WINDOW, len(manifest.features))


@pytest.mark.parametrize(
    ("manifest", "shape"),
    [
        (ONE, (4,)),
        (ONE, (2, 5)),
        (ONE, (2, 3, 1)),
        (ONE, (2, 4, 2)),
        (ONE, (1, 2, 4, 1)),
        (THREE, (2, 4)),
        (THREE, (2, 12)),
        (THREE, (2, 3, 4)),
        (ONE, (0, 4)),
        (THREE, (0, 4, 3)),
    ],
)
def test_windows_of_another_shape(manifest: Manifest, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_windows("windows", zeros(*shape), manifest)
    assert f"windows.shape is {list(shape)}; " in str(caught.value)


def test_the_message_tells_the_shape_to_send() -> None:
    with pytest.raises(InvalidRequest, match=r"takes \[N, 4, 3\]"):
        check_windows("windows", zeros(1, 4, 1), THREE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_value_that_is_not_finite_is_named(bad: float) -> None:
    windows = zeros(3, 4, 3)
    windows[1, 2, 0] = windows[2, 0, 1] = bad
    with pytest.raises(InvalidRequest, match=rf"^windows\[1, 2, 0\] is {bad}; values must be finite$"):
        check_windows("windows", windows, THREE)


@given(
    windows=arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6)),
    features=st.sampled_from([("value",), ("load", "temperature"), ("a", "b", "c")]),
)
def test_windows_are_an_array_or_an_invalid_request(windows: NDArray[np.float32], features: tuple[str, ...]) -> None:
    manifest = make_manifest(*features)
    right_shape = windows.shape[1:] in [(WINDOW, len(features)), *([(WINDOW,)] if len(features) == 1 else [])]
    good = bool(right_shape and len(windows) and np.isfinite(windows).all())
    if not good:
        with pytest.raises(InvalidRequest, match=r"^windows"):
            check_windows("windows", windows, manifest)
        return
    checked = check_windows("windows", windows, manifest)
    assert checked.shape == (len(windows), WINDOW, len(features))
    assert checked.ravel().tolist() == windows.ravel().tolist()


@given(values=arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=4)))
def test_finite_means_every_value(values: NDArray[np.float32]) -> None:
    if np.isfinite(values).all():
        check_finite("field", values)
    else:
        with pytest.raises(InvalidRequest, match=r"^field\["):
            check_finite("field", values)


@given(horizon=st.integers(), most=st.integers(1, 2**31))
def test_a_horizon_is_in_range(horizon: int, most: int) -> None:
    if 1 <= horizon <= most:
        assert check_horizon("horizon", horizon, most) == horizon
    else:
        with pytest.raises(InvalidRequest) as caught:
            check_horizon("horizon", horizon, most)
        assert str(caught.value) == f"horizon is {horizon}; it must be from 1 to {most}"


def test_future_is_demanded_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_future("future", None, THREE, 2, 5)
    assert str(caught.value) == (
        "future is missing; a horizon of 5 needs the covariates (temperature, holiday) as [2, 4, 2]"
    )


def test_future_is_taken_where_it_is_needed() -> None:
    future = zeros(2, 4, 2)
    assert check_future("future", future, THREE, 2, 5) is future


@pytest.mark.parametrize(
    "shape", [(2, 4), (2, 5, 2), (2, 3, 2), (1, 4, 2), (2, 4, 3), (2, 4, 1), (2, 2, 4), (2, 4, 2, 1), (0,)]
)
def test_future_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"future.shape is .*this call needs \[2, 4, 2\]"):
        check_future("future", zeros(*shape), THREE, 2, 5)


def test_future_must_be_finite() -> None:
    future = zeros(2, 4, 2)
    future[1, 3, 1] = np.nan
    with pytest.raises(InvalidRequest, match=r"^future\[1, 3, 1\] is nan"):
        check_future("future", future, THREE, 2, 5)


@pytest.mark.parametrize(("manifest", "horizon"), [(ONE, 1), (ONE, 9), (THREE, 1)])
def test_future_is_refused_where_nothing_reads_it(manifest: Manifest, horizon: int) -> None:
    assert check_future("future", None, manifest, 2, horizon) is None
    assert check_future("future", zeros(2, horizon - 1, 0), manifest, 2, horizon) is None
    with pytest.raises(InvalidRequest, match=r"future.shape is \[2, 4, 2\]; it is taken only with covariates"):
        check_future("future", zeros(2, 4, 2), manifest, 2, horizon)


def test_what_the_graph_gives_directly_needs_no_future() -> None:
    direct = msgspec.structs.replace(THREE, direct_horizon=3)
    assert check_future("future", None, direct, 2, 3) is None
    with pytest.raises(InvalidRequest, match="missing"):
        check_future("future", None, direct, 2, 4)


def test_the_limit_of_future_is_the_models_own() -> None:
    direct = msgspec.structs.replace(THREE, direct_horizon=3)
    with pytest.raises(InvalidRequest, match="only with covariates and a horizon above 3"):
        check_future("future", zeros(2, 2, 2), direct, 2, 3)
