"""Reading a ModelInferRequest: named arrays, or InvalidRequest naming the field."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.errors import InvalidRequest
from server.pb import open_inference_pb2 as pb
from server.transport.infer_parameters import check_outputs, horizon_of
from server.transport.infer_tensors import read_inputs, series_of

WINDOWS = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
FUTURE = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
INTEGERS = {
    "time_seconds": np.array([[-(2**63), -1, 0, 127, 128], [16383, 16384, 2**35, 2**62, 2**63 - 1]]),
    "series": np.array([[-1], [3]]),
}


def request(*names: str, raw: bool) -> pb.ModelInferRequest:
    """A good request with the inputs named."""
    made = pb.ModelInferRequest(model_name="m")
    for name in names:
        array: NDArray[Any] = INTEGERS.get(name, WINDOWS if name == "window" else FUTURE)
        tensor = made.inputs.add(name=name, datatype="INT64" if name in INTEGERS else "FP32", shape=array.shape)
        if raw:
            made.raw_input_contents.append(array.tobytes())
        elif name in INTEGERS:
            tensor.contents.int64_contents.extend(array.ravel().tolist())
        else:
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
    return made


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ("window",),
        ("window", "future"),
        ("future", "window"),
        ("window", "time_seconds", "series"),
        ("series", "future", "window", "time_seconds"),
    ],
)
def test_good_inputs(names: tuple[str, ...], raw: bool) -> None:
    """In any order, each with its own data."""
    read = read_inputs(request(*names, raw=raw))
    assert set(read) == set(names)
    np.testing.assert_array_equal(read["window"], WINDOWS)
    if "future" in names:
        np.testing.assert_array_equal(read["future"], FUTURE)
    for name in set(names) & set(INTEGERS):
        np.testing.assert_array_equal(read[name], INTEGERS[name], strict=True)


def both_spellings(bad: pb.ModelInferRequest) -> None:
    bad.inputs[0].contents.fp32_contents.extend([1.0])


def raw_for_one_of_two(bad: pb.ModelInferRequest) -> None:
    del bad.raw_input_contents[1]
    bad.inputs[1].contents.fp32_contents.extend(FUTURE.ravel().tolist())


def set_name(bad: pb.ModelInferRequest) -> None:
    bad.inputs[1].name = "windows"


def twice(bad: pb.ModelInferRequest) -> None:
    bad.inputs[1].name = "window"


def set_datatype(bad: pb.ModelInferRequest) -> None:
    bad.inputs[0].datatype = "FP64"


def no_datatype(bad: pb.ModelInferRequest) -> None:
    bad.inputs[0].datatype = ""


def short(bad: pb.ModelInferRequest) -> None:
    bad.raw_input_contents[0] = bad.raw_input_contents[0][:-1]


def empty(bad: pb.ModelInferRequest) -> None:
    bad.raw_input_contents[1] = b""


def one_too_many(bad: pb.ModelInferRequest) -> None:
    bad.raw_input_contents.append(b"")


def no_shape(bad: pb.ModelInferRequest) -> None:
    del bad.inputs[0].shape[:]


def negative(bad: pb.ModelInferRequest) -> None:
    bad.inputs[0].shape[0] = -1


def no_window(bad: pb.ModelInferRequest) -> None:
    del bad.inputs[0]
    del bad.raw_input_contents[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (both_spellings, "inputs[window].contents is filled"),
        (raw_for_one_of_two, "raw_input_contents is 1 entries; there are 2 inputs; all are raw or none is"),
        (set_name, "inputs[1].name is 'windows'; expected 'window'"),
        (twice, "inputs[1].name is 'window'; expected 'window' (and 'future', 'time_seconds', 'series') once"),
        (set_datatype, "inputs[window].datatype is 'FP64'; it must be 'FP32'"),
        (no_datatype, "inputs[window].datatype is ''"),
        (short, "raw_input_contents[0] is 39 bytes; shape [2, 5, 1] of FP32 has 40 bytes"),
        (empty, "raw_input_contents[1] is 0 bytes"),
        (one_too_many, "raw_input_contents is 3 entries; there are 2 inputs"),
        (no_shape, "inputs[window].shape is []"),
        (negative, "inputs[window].shape is [-1, 5, 1]"),
        (no_window, "inputs is without 'window'"),
    ],
)
def test_bad_raw_inputs(spoil: Callable[[pb.ModelInferRequest], None], said: str) -> None:
    bad = request("window", "future", raw=True)
    spoil(bad)
    with pytest.raises(InvalidRequest) as caught:
        read_inputs(bad)
    assert said in str(caught.value)


@pytest.mark.parametrize("field", ["fp64_contents", "int_contents", "int64_contents", "uint_contents"])
def test_typed_contents_of_another_type(field: str) -> None:
    """The datatype says FP32, the elements are elsewhere."""
    bad = request("window", raw=False)
    elements = [int(value) for value in bad.inputs[0].contents.fp32_contents]
    bad.inputs[0].contents.Clear()
    getattr(bad.inputs[0].contents, field).extend(elements)
    with pytest.raises(InvalidRequest, match=rf"inputs\[window\].contents.{field} is filled"):
        read_inputs(bad)


@pytest.mark.parametrize("field", ["fp32_contents", "int_contents", "uint64_contents"])
def test_typed_integers_of_another_type(field: str) -> None:
    bad = request("window", "series", raw=False)
    bad.inputs[1].contents.Clear()
    getattr(bad.inputs[1].contents, field).extend([0, 1])
    with pytest.raises(
        InvalidRequest, match=rf"inputs\[series\].contents.{field} is filled; INT64 is in int64_contents"
    ):
        read_inputs(bad)


def test_typed_integers_of_another_number() -> None:
    bad = request("window", "series", raw=False)
    bad.inputs[1].contents.int64_contents.append(1)
    with pytest.raises(InvalidRequest, match=r"series\].contents.int64_contents is 3 values; shape \[2, 1\] has 2"):
        read_inputs(bad)


def test_raw_integers_have_8_bytes_each() -> None:
    bad = request("window", "series", raw=True)
    bad.raw_input_contents[1] = b"1234" * 2
    with pytest.raises(InvalidRequest, match=r"contents\[1\] is 8 bytes; shape \[2, 1\] of INT64 has 16 bytes"):
        read_inputs(bad)


def test_typed_contents_of_two_types() -> None:
    bad = request("window", raw=False)
    bad.inputs[0].contents.fp64_contents.extend([1.0])
    with pytest.raises(InvalidRequest, match=r"inputs\[window\].contents.fp64_contents is filled"):
        read_inputs(bad)


def test_no_inputs() -> None:
    with pytest.raises(InvalidRequest, match="'window' is required"):
        read_inputs(pb.ModelInferRequest(model_name="m"))


CONTENTS = st.builds(
    pb.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=12),
    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=3), max_size=2),
)
TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["window", "future", "time_seconds", "series", "", "next"]),
    datatype=st.sampled_from(["FP32", "FP32", "INT64", "BYTES", "FP64", ""]),
    shape=st.lists(st.integers(0, 3) | st.integers(-(2**63), 2**63 - 1), max_size=4),
    contents=st.none() | CONTENTS,
)


@given(tensors=st.lists(TENSORS, max_size=3), raw=st.lists(st.binary(max_size=48), max_size=3))
def test_whatever_is_sent(tensors: list[pb.ModelInferRequest.InferInputTensor], raw: list[bytes]) -> None:
    """Arrays of the shapes sent, or InvalidRequest; nothing else."""
    sent = pb.ModelInferRequest(inputs=tensors, raw_input_contents=raw)
    try:
        read = read_inputs(sent)
    except InvalidRequest:
        return
    assert "window" in read
    assert {tensor.name: list(tensor.shape) for tensor in tensors} == {
        name: list(array.shape) for name, array in read.items()
    }


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_a_horizon_is_an_integer(kind: str) -> None:
    made = pb.ModelInferRequest()
    setattr(made.parameters["horizon"], kind, 5)
    assert horizon_of(made.parameters) == 5


def test_no_horizon_is_one() -> None:
    assert horizon_of(pb.ModelInferRequest().parameters) == 1
    assert horizon_of(pb.ModelInferRequest().parameters, 3) == 3


@pytest.mark.parametrize(
    ("kind", "value"), [("string_param", "5"), ("double_param", 5.0), ("bool_param", True), (None, None)]
)
def test_a_horizon_of_another_type(kind: str | None, value: object) -> None:
    made = pb.ModelInferRequest()
    parameter = made.parameters["horizon"]
    if kind is not None:
        setattr(parameter, kind, value)
    with pytest.raises(InvalidRequest, match=r"parameters\[horizon\] is .*; it must be an int64_param"):
        horizon_of(made.parameters)


IDS = ["shop-a", "Café ☕", ""]


def with_ids(ids: list[bytes], shape: list[int], *, raw: bool) -> pb.ModelInferRequest:
    """A good request and its series by id."""
    made = request("window", raw=raw)
    tensor = made.inputs.add(name="series", datatype="BYTES", shape=shape)
    if raw:
        made.raw_input_contents.append(b"".join(len(each).to_bytes(4, "little") + each for each in ids))
    else:
        tensor.contents.bytes_contents.extend(ids)
    return made


@pytest.mark.parametrize("raw", [True, False])
def test_series_by_id(raw: bool) -> None:
    assert series_of(read_inputs(with_ids([each.encode() for each in IDS], [3, 1], raw=raw))) == IDS


def test_series_by_number_or_not_at_all() -> None:
    np.testing.assert_array_equal(series_of(read_inputs(request("window", "series", raw=True))), INTEGERS["series"])
    assert series_of(read_inputs(request("window", raw=True))) is None


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(
    ("ids", "shape", "said"),
    [
        ([b"a"], [2, 1], r"is 1 elements; shape \[2, 1\] has 2"),
        ([b"a", b"b", b"c"], [2, 1], r"is 3 elements; shape \[2, 1\] has 2"),
        ([b"a", b"\xff"], [2, 1], r"\[1\] is 1 bytes; it must be UTF-8: "),
        ([b"a", b"b"], [2], r"inputs\[series\]\.shape is \[2\]; it must be \[N, 1\]"),
        ([b"a", b"b"], [1, 2], r"inputs\[series\]\.shape is \[1, 2\]; it must be \[N, 1\]"),
    ],
)
def test_ids_that_are_none(ids: list[bytes], shape: list[int], said: str, raw: bool) -> None:
    with pytest.raises(InvalidRequest, match=said):
        series_of(read_inputs(with_ids(ids, shape, raw=raw)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x01\0\0", "is 3 bytes; element 0 breaks off in its length"),
        (b"\0\0\0\0\x02\0\0\0a", "is 9 bytes; element 1 is to end at byte 10"),
        (b"\xff\xff\xff\xff", "is 4 bytes; element 0 is to end at byte 4294967299"),
    ],
)
def test_raw_ids_that_break_off(data: bytes, said: str) -> None:
    bad = with_ids([b"a", b"b"], [2, 1], raw=True)
    bad.raw_input_contents[1] = data
    with pytest.raises(InvalidRequest, match=r"raw_input_contents\[1\]") as caught:
        read_inputs(bad)
    assert said in str(caught.value)


def test_only_series_have_ids() -> None:
    bad = request("window", "time_seconds", raw=True)
    bad.inputs[1].datatype = "BYTES"
    with pytest.raises(InvalidRequest, match=r"inputs\[time_seconds\]\.datatype is 'BYTES'; it must be 'INT64'$"):
        read_inputs(bad)
    bad = request("window", "series", raw=True)
    bad.inputs[1].datatype = "FP32"
    with pytest.raises(InvalidRequest, match="it must be 'INT64' or 'BYTES'"):
        read_inputs(bad)


@pytest.mark.parametrize("name", ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"])
def test_shared_memory_is_refused_by_name(name: str) -> None:
    made = request("window", raw=True)
    made.inputs[0].parameters[name].int64_param = 1
    made.outputs.add(name="next").parameters[name].int64_param = 1
    with pytest.raises(InvalidRequest, match=rf"^inputs\[window\]\.parameters\[{name}\] is given; tensors travel"):
        read_inputs(made)
    with pytest.raises(InvalidRequest, match=rf"^outputs\[0\]\.parameters\[{name}\] is given; tensors travel"):
        check_outputs(made.outputs)


def test_classes_are_refused_by_name() -> None:
    made = pb.ModelInferRequest()
    made.outputs.add(name="next").parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequest, match="the outputs are values, not classes"):
        check_outputs(made.outputs)


def test_parameters_that_nobody_knows_are_passed_over() -> None:
    """As the protocol has it; `binary_data` says what is the case anyway."""
    made = request("window", raw=True)
    made.inputs[0].parameters["binary_data"].bool_param = True
    made.inputs[0].parameters["anything"].double_param = 0.5
    made.outputs.add(name="next").parameters["binary_data"].bool_param = False
    np.testing.assert_array_equal(read_inputs(made)["window"], WINDOWS)
    check_outputs(made.outputs)
