"""ModelConfig: how a model is run, for tools that make up their own requests."""

from collections.abc import Iterable, Iterator

from export.artifact.manifest import Tensor
from server.pb import open_inference_pb2 as pb
from server.tensors import SHOWN, WINDOW
from server.transport.infer_tensors import DATATYPES, FP32, INT64
from server.versions import Served

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
_DATA_TYPES = {FP32.name: pb.TYPE_FP32, INT64.name: pb.TYPE_INT64}


def config_of(served: Served, *, max_batch_windows: int, versions: Iterable[int]) -> pb.ModelConfig:
    """`versions` are those that serve."""
    graph = served.manifest.graphs[WINDOW]
    return pb.ModelConfig(
        name=served.model,
        platform=PLATFORM,
        backend=BACKEND,
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=versions)),
        max_batch_size=max_batch_windows,
        input=[
            pb.ModelInput(name=tensor.name, data_type=_DATA_TYPES[DATATYPES[tensor.name].name], dims=_dims(tensor))
            for tensor in graph.inputs
        ],
        output=[
            pb.ModelOutput(name=tensor.name, data_type=pb.TYPE_FP32, dims=_dims(tensor))
            for tensor in graph.outputs
            if tensor.name in SHOWN
        ],
        dynamic_batching=pb.ModelDynamicBatching(max_queue_delay_microseconds=0),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )


def _dims(tensor: Tensor) -> Iterator[int]:
    """The extents behind the batch's."""
    return (size for size in tensor.shape if isinstance(size, int))
