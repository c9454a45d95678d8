import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import ArrayLike

from nextvalue import InvalidArgument
from nextvalue.arrays import pack, to_float32, unpack
from nextvalue.v1.nextvalue_pb2 import FloatArray

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
ARRAYS = hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False))


@given(ARRAYS)
def test_raw_values_round_trip(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    message = pack(array)
    assert message.raw_values == array.astype("<f4").tobytes()
    assert not message.values
    np.testing.assert_array_equal(unpack(message, field="x"), array, strict=True)


@given(ARRAYS)
def test_values_decode_to_the_same_array(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    message = FloatArray(shape=array.shape, values=array.ravel().tolist())
    np.testing.assert_array_equal(unpack(message, field="x"), array, strict=True)


def test_elements_are_sent_in_c_order_whatever_the_memory_layout() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert pack(array).raw_values == np.arange(6, dtype="<f4").tobytes()


def test_a_decoded_array_can_be_written_to() -> None:
    array = unpack(pack(np.zeros(3, np.float32)), field="x")
    array += 1
    assert array.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (FloatArray(shape=[2], values=[1.0]), r"x\.values has 1 elements: shape \[2\] needs 2"),
        (FloatArray(shape=[1], raw_values=b"abc"), r"x\.raw_values has 3 bytes: shape \[1\] needs 4"),
        (FloatArray(shape=[-1], values=[1.0]), r"x has shape \[-1\]"),
        (FloatArray(shape=[1], values=[1.0], raw_values=b"abcd"), "both values and raw_values"),
        (FloatArray(), r"x\.values has 0 elements: shape \[\] needs 1"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(message: FloatArray, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        unpack(message, field="x")


@pytest.mark.parametrize("values", [[1, 2], (1.0, 2.0), np.array([1, 2], ">f8"), np.array([1, 2], np.uint8), [True, 2]])
def test_numbers_of_any_kind_become_float32(values: ArrayLike) -> None:
    array = to_float32(values, field="windows")
    assert array.dtype == np.float32
    assert array.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([[1, 2], [3]], "windows is not an array of real numbers"),
        (["1", "2"], "windows is not an array of real numbers"),
        ([1j], "windows is not an array of real numbers"),
        ([[1, 2], [3, float("nan")]], r"windows\[1, 1\] is nan: must be finite"),
        ([1e39], r"windows\[0\] is 1e\+39: must be finite as float32"),
        ([1, None], r"windows\[1\] is None: must be finite"),
    ],
)
def test_what_float32_cannot_say_is_refused_by_name(values: ArrayLike, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        to_float32(values, field="windows")
