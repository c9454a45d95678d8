"""FloatArray messages: an array, or InvalidRequest naming the field."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from nextvalue.v1.nextvalue_pb2 import FloatArray, IntArray
from server.errors import InvalidRequest
from server.transport.arrays import MAX_ELEMENTS, from_message, to_message, to_raw

INT64 = st.integers(-(2**63), 2**63 - 1)
# Mostly plausible, sometimes wild: huge extents beside a 0 have a product that fits anything.
EXTENTS = st.integers(0, 4) | st.sampled_from([2**31, 2**32, 2**62, 2**63 - 1, -1]) | INT64


@given(
    shape=st.lists(EXTENTS, max_size=10),
    values=st.lists(st.floats(width=32), max_size=20),
    raw=st.binary(max_size=100),
)
def test_whatever_is_sent(shape: list[int], values: list[float], raw: bytes) -> None:
    """An array of that shape with those elements, or InvalidRequest; nothing else."""
    message = FloatArray(shape=shape, values=values, raw_values=raw)
    num_sent = len(raw) / 4 if raw else len(values)
    plausible = 1 <= len(shape) <= 8 and min(shape) >= 0 and math.prod(extent or 1 for extent in shape) <= MAX_ELEMENTS
    if not plausible or math.prod(shape) != num_sent or (raw and values):
        with pytest.raises(InvalidRequest, match=r"^windows"):
            from_message("windows", message)
        return
    array = from_message("windows", message)
    assert list(array.shape) == shape
    assert array.dtype == np.float32
    sent = np.frombuffer(raw, "<f4") if raw else np.array(values, np.float32)
    np.testing.assert_array_equal(array.ravel(), sent)


@given(
    shape=st.lists(EXTENTS, max_size=10),
    values=st.lists(INT64, max_size=20),
    raw=st.binary(max_size=100),
)
def test_whatever_integers_are_sent(shape: list[int], values: list[int], raw: bytes) -> None:
    """An array of that shape with those elements, or InvalidRequest; nothing else."""
    message = IntArray(shape=shape, values=values, raw_values=raw)
    num_sent = len(raw) / 8 if raw else len(values)
    plausible = 1 <= len(shape) <= 8 and min(shape) >= 0 and math.prod(extent or 1 for extent in shape) <= MAX_ELEMENTS
    if not plausible or math.prod(shape) != num_sent or (raw and values):
        with pytest.raises(InvalidRequest, match=r"^times"):
            from_message("times", message)
        return
    array = from_message("times", message)
    assert list(array.shape) == shape
    assert array.dtype == np.int64
    assert array.ravel().tolist() == (np.frombuffer(raw, "<i8").tolist() if raw else values)


@given(array=arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=5)), raw=st.booleans())
def test_there_and_back(array: NDArray[np.float32], raw: bool) -> None:
    message = to_message(array, raw=raw)
    assert bool(message.raw_values) is raw
    np.testing.assert_array_equal(from_message("windows", message), array)


@pytest.mark.parametrize("raw", [True, False])
def test_empty_arrays(raw: bool) -> None:
    array = np.zeros((0, 5), np.float32)
    assert from_message("windows", to_message(array, raw=raw)).shape == (0, 5)


def test_raw_bytes_are_little_endian_in_c_order() -> None:
    array = np.array([[1, 2], [3, 4]], np.float32).T
    assert to_raw(array) == np.array([1, 3, 2, 4], "<f4").tobytes()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (FloatArray(), "windows.shape is []; it must have 1 to 8 dimensions"),
        (FloatArray(shape=[1] * 9, values=[1.0]), "it must have 1 to 8 dimensions"),
        (FloatArray(shape=[2, -1], values=[1.0]), "windows.shape is [2, -1]; no extent may be negative"),
        (FloatArray(shape=[3], values=[1.0]), "windows.values is 1 values; shape [3] has 3"),
        (FloatArray(shape=[1], raw_values=b"123"), "windows.raw_values is 3 bytes; shape [1] of FP32 has 4 bytes"),
        (FloatArray(shape=[2], raw_values=b"1234"), "windows.raw_values is 4 bytes; shape [2] of FP32 has 8 bytes"),
        (FloatArray(shape=[1], values=[1.0], raw_values=b"1234"), "exactly one of them may be filled"),
        (FloatArray(shape=[0, 2**62]), "windows.shape is [0, 4611686018427387904]"),
    ],
)
def test_what_is_said(message: FloatArray, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_message("windows", message)
    assert said in str(caught.value)


def test_the_shape_in_a_message_is_bounded() -> None:
    """A thousand dimensions do not come back in the error."""
    with pytest.raises(InvalidRequest) as caught:
        from_message("windows", FloatArray(shape=[1] * 1000, values=[1.0]))
    assert len(str(caught.value)) < 200
