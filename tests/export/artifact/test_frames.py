"""Frames: what is sent arrives; anything else is FrameError and nothing but FrameError."""

import contextlib
import json
import socket
import struct
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from export.artifact.frames import MAX_ARRAY_BYTES, MAX_HEADER_BYTES, Frame, FrameError, receive, send

any_shape = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
any_array = hnp.arrays(
    hnp.floating_dtypes(sizes=(32, 64), endianness="?") | hnp.integer_dtypes(sizes=64, endianness="?"), any_shape
)
fields = st.dictionaries(
    st.text(max_size=8),
    st.text(max_size=8) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    max_size=4,
)


def _header(text: bytes | dict[str, object]) -> bytes:
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<I", len(data)) + data


def _array(shape: list[int], dtype: str = "float32") -> bytes:
    return _header({"fields": {}, "arrays": [{"name": "x", "dtype": dtype, "shape": shape}]})


def _through(data: bytes) -> Frame | None:
    """What a receiver makes of these bytes followed by the end of the connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        return receive(theirs)


def _bytes_of(frame: Frame) -> bytes:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            send(ours, frame)
        return b"".join(iter(lambda: theirs.recv(1 << 16), b""))


@given(fields, st.dictionaries(st.text(max_size=8), any_array, max_size=3))
@settings(deadline=None)
def test_round_trip(
    sent: dict[str, str | int | float], arrays: dict[str, NDArray[np.float32] | NDArray[np.float64]]
) -> None:
    received = _through(_bytes_of(Frame(sent, arrays)))
    assert received is not None
    assert received.fields == sent
    assert list(received.arrays) == list(arrays)
    for name, array in arrays.items():
        assert received.arrays[name].dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(received.arrays[name], array, strict=False)
        assert received.arrays[name].shape == array.shape


def test_transposed_array_arrives_as_it_looks() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    received = _through(_bytes_of(Frame({}, {"x": array})))
    assert received is not None
    np.testing.assert_array_equal(received.arrays["x"], array)


def test_frames_follow_each_other() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        for k in range(3):
            send(ours, Frame({"k": k}, {"x": np.full((k, 2), k, np.float32)}))
        ours.shutdown(socket.SHUT_WR)
        for k in range(3):
            frame = receive(theirs)
            assert frame is not None
            assert frame.fields == {"k": k}
            assert frame.arrays["x"].shape == (k, 2)
        assert receive(theirs) is None


def test_large_array_arrives_in_pieces() -> None:
    """More than a socket's buffer, so that it is read and written in many parts."""
    array = np.random.default_rng(0).standard_normal((512, 1024))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, Frame({}, {"x": array})))
        sender.start()
        frame = receive(theirs)
        sender.join()
    assert frame is not None
    np.testing.assert_array_equal(frame.arrays["x"], array)


def test_closed_before_a_frame_is_the_end() -> None:
    assert _through(b"") is None


def test_every_truncation_is_refused() -> None:
    whole = _bytes_of(Frame({"type": "run"}, {"x": np.ones((2, 3), np.float32), "y": np.ones(1)}))
    for length in range(1, len(whole)):
        with pytest.raises(FrameError, match="bytes before the end of a frame"):
            _through(whole[:length])


@given(st.binary(min_size=1, max_size=300))
@settings(deadline=None)
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        _through(data)


@given(st.binary(max_size=100))
@settings(deadline=None)
@example(b"\xff")
@example(b'{"fields":{"a":"\xff"},"arrays":[]}')
@example(b"[" * 5000)
@example(b"")
@example(b"null")
def test_random_headers_are_refused(header: bytes) -> None:
    with pytest.raises(FrameError, match="header"):
        _through(_header(header))


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"fields": {}},
        {"arrays": []},
        {"fields": {}, "arrays": [], "pickle": "x"},
        {"fields": {"a": None}, "arrays": []},
        {"fields": {"a": [1]}, "arrays": []},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "object", "shape": [1]}]},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "int32", "shape": [1]}]},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "float32", "shape": [-1]}]},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "float32", "shape": [1.5]}]},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "float32", "shape": 1}]},
        {"fields": {}, "arrays": [{"name": "x", "dtype": "float32"}]},
    ],
)
def test_wrong_headers_are_refused(header: dict[str, object]) -> None:
    with pytest.raises(FrameError, match="header"):
        _through(_header(header) + bytes(64))


def test_header_beyond_its_limit_is_refused_unread() -> None:
    with pytest.raises(FrameError, match=f"header has {MAX_HEADER_BYTES + 1} bytes; the limit is {MAX_HEADER_BYTES}"):
        _through(struct.pack("<I", MAX_HEADER_BYTES + 1))
    with pytest.raises(FrameError, match="the limit is"):
        _through(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("shape", [[MAX_ARRAY_BYTES // 4 + 1], [2**20, 2**20], [2**40, 2**40, 2**40]])
def test_arrays_beyond_their_limit_are_refused_unread(shape: list[int]) -> None:
    with pytest.raises(FrameError, match=f"bytes; the limit is {MAX_ARRAY_BYTES}"):
        _through(_array(shape))


def test_limit_is_of_all_arrays_together() -> None:
    half = {"dtype": "float64", "shape": [MAX_ARRAY_BYTES // 16 + 1]}
    with pytest.raises(FrameError, match=f"the limit is {MAX_ARRAY_BYTES}"):
        _through(_header({"fields": {}, "arrays": [{"name": "x", **half}, {"name": "y", **half}]}))


@pytest.mark.parametrize("shape", [[0, 2**62, 4], [0, 2**70], [1] * 70, [0] * 70])
def test_shapes_that_numpy_cannot_have_are_refused(shape: list[int]) -> None:
    with pytest.raises(FrameError):
        _through(_array(shape) + bytes(4))


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_altered_frames_give_a_frame_or_frame_error(data: st.DataObject) -> None:
    whole = bytearray(_bytes_of(Frame({"type": "run", "version": 1}, {"x": np.ones((2, 3)), "y": np.ones(0)})))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FrameError):
        assert isinstance(_through(bytes(whole)), Frame)
