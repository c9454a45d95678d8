"""Named tensors of the Open Inference Protocol, in: typed or raw, each of its own datatype."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import InvalidRequest, shown
from server.pb import open_inference_pb2 as pb
from server.tensors import SERIES, TIME_SECONDS, WINDOW, Tensors
from server.transport.arrays import checked_shape, from_raw, from_values
from server.transport.bytes_tensors import from_raw_texts, from_texts
from server.transport.infer_parameters import check_input
from server.transport.packed import FLOAT, SFIXED64, packed_values

FUTURE = "future"


@dataclass(frozen=True)
class Datatype:
    """A datatype of the protocol: its name, raw form, and the field of typed contents."""

    name: str
    raw: np.dtype[Any]
    contents: str


FP32 = Datatype("FP32", FLOAT, "fp32_contents")
INT64 = Datatype("INT64", SFIXED64, "int64_contents")
BYTES = Datatype("BYTES", np.dtype(np.object_), "bytes_contents")
# Every input that some model takes, as a graph has it.
DATATYPES = {WINDOW: FP32, FUTURE: FP32, TIME_SECONDS: INT64, SERIES: INT64}
# And as else it may be sent: series by their ids.
_OTHERS = {SERIES: BYTES}


def read_inputs(request: pb.ModelInferRequest) -> Tensors:
    """The named input arrays. Raises InvalidRequest on whatever is wrong with them."""
    raw, inputs = request.raw_input_contents, request.inputs
    num_raw = len(raw)
    if num_raw and num_raw != len(inputs):
        raise InvalidRequest(
            "raw_input_contents",
            f"{num_raw} entries",
            f"there are {len(inputs)} inputs; all are raw or none is",
        )
    arrays: Tensors = {}
    for k, tensor in enumerate(inputs):
        # Every look into a message costs as much as a call.
        name = tensor.name
        if name not in DATATYPES or name in arrays:
            others = ", ".join(repr(other) for other in DATATYPES if other != WINDOW)
            raise InvalidRequest(f"inputs[{k}].name", shown(name), f"expected {WINDOW!r} (and {others}) once")
        field = f"inputs[{name}]"
        if tensor.parameters:
            check_input(field, tensor.parameters)
        datatype = _datatype(field, name, tensor.datatype)
        shape = checked_shape(field, tensor.shape)
        if num_raw:
            if tensor.HasField("contents"):
                raise InvalidRequest(f"{field}.contents", "filled", "it must be empty beside raw_input_contents")
            arrays[name] = _raw(f"raw_input_contents[{k}]", raw[k], shape, datatype)
        else:
            arrays[name] = _typed(f"{field}.contents", tensor.contents, shape, datatype)
    if WINDOW not in arrays:
        raise InvalidRequest("inputs", "without 'window'", "the input 'window' is required")
    return arrays


def series_of(arrays: Tensors) -> Sequence[str] | NDArray[np.int64] | None:
    """The series of each window: ids, or numbers [N, 1]. Raises InvalidRequest if the ids are not [N, 1]."""
    array = arrays.get(SERIES)
    if array is None or array.dtype != BYTES.raw:
        return array
    if array.shape[1:] != (1,):
        raise InvalidRequest(f"inputs[{SERIES}].shape", list(array.shape), "it must be [N, 1]")
    ids: list[str] = array[:, 0].tolist()
    return ids


def _datatype(field: str, name: str, sent: str) -> Datatype:
    if sent == DATATYPES[name].name:
        return DATATYPES[name]
    known = [each[name] for each in (DATATYPES, _OTHERS) if name in each]
    for datatype in known:
        if datatype.name == sent:
            return datatype
    limit = " or ".join(repr(each.name) for each in known)
    raise InvalidRequest(f"{field}.datatype", shown(sent), f"it must be {limit}")


def _raw(field: str, data: bytes, shape: tuple[int, ...], datatype: Datatype) -> NDArray[Any]:
    return from_raw_texts(field, data, shape) if datatype is BYTES else from_raw(field, data, shape, datatype.raw)


def _typed(field: str, contents: pb.InferTensorContents, shape: tuple[int, ...], datatype: Datatype) -> NDArray[Any]:
    for filled, _ in contents.ListFields():
        if filled.name != datatype.contents:
            raise InvalidRequest(f"{field}.{filled.name}", "filled", f"{datatype.name} is in {datatype.contents}")
    field = f"{field}.{datatype.contents}"
    if datatype is FP32:
        return from_values(field, packed_values(contents, contents.FP32_CONTENTS_FIELD_NUMBER, FLOAT), shape)
    if datatype is BYTES:
        return from_texts(field, contents.bytes_contents, shape)
    # Of varying width on the wire, so there is no array in the message.
    return from_values(field, np.fromiter(contents.int64_contents, np.int64, len(contents.int64_contents)), shape)
