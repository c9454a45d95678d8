"""Parameters of a ModelInferRequest. Those nobody here knows are passed over, as the protocol has it.

Not those that would change what comes back: a caller who asks for classes, or for the answer in shared memory, would
take what is sent for something else.
"""

from collections.abc import Iterable, Mapping

from export.artifact.manifest import ROLLOUTS, SLIDING
from server.errors import InvalidRequest, shown
from server.pb import open_inference_pb2 as pb

Parameters = Mapping[str, pb.InferParameter]

_SHARED_MEMORY = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


def check_input(field: str, parameters: Parameters) -> None:
    """Raises InvalidRequest if the input is elsewhere than in the request."""
    _refuse(field, parameters, _SHARED_MEMORY, "tensors travel in the message")


def check_outputs(outputs: Iterable[pb.ModelInferRequest.InferRequestedOutputTensor]) -> None:
    """Raises InvalidRequest if one is to be another thing than a tensor in the response."""
    for k, output in enumerate(outputs):
        if output.parameters:
            _refuse(f"outputs[{k}]", output.parameters, _SHARED_MEMORY, "tensors travel in the message")
            _refuse(f"outputs[{k}]", output.parameters, ("classification",), "the outputs are values, not classes")


def _refuse(field: str, parameters: Parameters, names: Iterable[str], limit: str) -> None:
    for name in names:
        if name in parameters:
            raise InvalidRequest(f"{field}.parameters[{name}]", "given", limit)


def horizon_of(parameters: Parameters, default: int = 1) -> int:
    """The parameter `horizon`, or the default."""
    if "horizon" not in parameters:
        return default
    parameter = parameters["horizon"]
    choice = parameter.WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidRequest("parameters[horizon]", choice or "empty", "it must be an int64_param")
    return parameter.int64_param if choice == "int64_param" else parameter.uint64_param


def rollout_from(parameters: Parameters) -> str:
    """The parameter `rollout`, or sliding."""
    if "rollout" not in parameters:
        return SLIDING
    value = parameters["rollout"].string_param
    if value not in ROLLOUTS:
        raise InvalidRequest("parameters[rollout]", shown(value), f"it must be a string_param, one of {list(ROLLOUTS)}")
    return value
