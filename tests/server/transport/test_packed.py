"""Packed fields read and written as arrays give what the field's own elements give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from nextvalue.v1.nextvalue_pb2 import FloatArray, IntArray
from server.pb.open_inference_pb2 import InferTensorContents
from server.transport.packed import FLOAT, SFIXED64, packed_values, with_packed_floats

VALUES = FloatArray.VALUES_FIELD_NUMBER
FP32 = InferTensorContents.FP32_CONTENTS_FIELD_NUMBER
FLOATS = arrays.arrays(np.float32, st.integers(0, 50))

# Fields 200 to 203, which no message of ours has: varint, 64 bits, bytes, 32 bits; and a group.
UNKNOWN = {
    "varint": b"\xc0\x0c\xff\xff\x03",
    "fixed64": b"\xc9\x0c" + b"\x01" * 8,
    "bytes": b"\xd2\x0c\x03abc",
    "fixed32": b"\xdd\x0c" + b"\x01" * 4,
    "group": b"\xe3\x0c\x08\x01\xe4\x0c",
}


def assert_same_bits(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.tobytes() == expected.tobytes()


@given(values=FLOATS, shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8), raw=st.binary(max_size=20))
def test_reading_among_other_fields(values: NDArray[np.float32], shape: list[int], raw: bytes) -> None:
    """The fields before and after it are passed over, whatever their lengths."""
    message = FloatArray(shape=shape, values=values.tolist(), raw_values=raw)
    expected = np.array(message.values, np.float32)
    assert_same_bits(packed_values(message, VALUES, FLOAT), expected)


@given(values=FLOATS, others=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5))
def test_reading_beside_typed_contents(values: NDArray[np.float32], others: list[int]) -> None:
    message = InferTensorContents(
        fp32_contents=values.tolist(), int_contents=others, fp64_contents=others, bytes_contents=[b"x"] * len(others)
    )
    assert_same_bits(packed_values(message, FP32, FLOAT), np.array(message.fp32_contents, np.float32))


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("first", [True, False])
def test_reading_a_message_of_a_later_version(kind: str, first: bool) -> None:
    """Fields that we do not know may stand anywhere on the wire."""
    values = np.arange(5, dtype=np.float32)
    known = FloatArray(shape=[5], values=values.tolist()).SerializeToString()
    message = FloatArray.FromString(UNKNOWN[kind] + known if first else known + UNKNOWN[kind])
    assert_same_bits(packed_values(message, VALUES, FLOAT), values)


def test_reading_elements_that_were_not_packed() -> None:
    """A sender may put them on the wire one by one."""
    values = np.array([1.5, -2.5], np.float32)
    message = FloatArray.FromString(b"".join(b"\x15" + value.tobytes() for value in values))
    assert_same_bits(packed_values(message, VALUES, FLOAT), values)


@given(values=arrays.arrays(np.int64, st.integers(0, 50)), raw=st.binary(max_size=20))
def test_reading_integers_of_fixed_width(values: NDArray[np.int64], raw: bytes) -> None:
    message = IntArray(shape=[len(values)], values=values.tolist(), raw_values=raw)
    found = packed_values(message, IntArray.VALUES_FIELD_NUMBER, SFIXED64)
    assert (found.dtype, found.tolist()) == (np.dtype("<i8"), values.tolist())


def test_reading_what_is_not_there() -> None:
    assert packed_values(FloatArray(shape=[3], raw_values=b"abcd"), VALUES, FLOAT).shape == (0,)
    assert packed_values(FloatArray(), VALUES, FLOAT).shape == (0,)


@given(values=FLOATS)
def test_writing(values: NDArray[np.float32]) -> None:
    message = with_packed_floats(FloatArray(shape=[len(values)]), VALUES, values)
    assert message == FloatArray(shape=[len(values)], values=values.tolist()) or np.isnan(values).any()
    assert_same_bits(packed_values(message, VALUES, FLOAT), values)


def test_writing_is_in_c_order() -> None:
    array = np.array([[1, 2], [3, 4]], np.float32).T
    assert list(with_packed_floats(FloatArray(), VALUES, array).values) == [1, 3, 2, 4]


@pytest.mark.parametrize("count", [31, 32, 4095, 4096, 600_000])
def test_lengths_of_every_width(count: int) -> None:
    """Around each step of the varint."""
    values = np.arange(count, dtype=np.float32)
    message = with_packed_floats(FloatArray(shape=[count]), VALUES, values)
    assert len(message.values) == count
    assert_same_bits(packed_values(message, VALUES, FLOAT), values)
