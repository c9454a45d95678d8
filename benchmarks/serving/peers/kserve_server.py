"""An ONNX graph behind KServe's gRPC server: kserve_server.py MODEL.onnx PORT. Runs in KServe's environment.

Without its HTTP side, and on the loopback address, where KServe's own start takes all.
"""

import asyncio
import sys
from typing import Any

import numpy as np
import onnxruntime as ort
from grpc import aio
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

LARGEST_MESSAGE = 64 << 20


class OnnxModel(Model):  # type: ignore[misc]  # ships no types
    """Input x, output y."""

    def __init__(self, graph: str) -> None:
        super().__init__("lstm")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Run it."""
        (found,) = self._session.run(["y"], {"x": payload.inputs[0].as_numpy()})
        output = InferOutput(name="y", shape=list(found.shape), datatype="FP32")
        output.set_data_from_numpy(found.astype(np.float32), binary_data=True)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=[output])


async def serve(graph: str, port: int) -> None:
    """Until it is ended."""
    kind = type(aio.server())
    bind = kind.add_insecure_port
    setattr(kind, "add_insecure_port", lambda self, address: bind(self, address.replace("[::]", "127.0.0.1")))  # noqa: B010 (to mypy a method is no variable)
    models = ModelRepository()
    models.update(OnnxModel(graph))
    limits = {"grpc_max_send_message_length": LARGEST_MESSAGE, "grpc_max_receive_message_length": LARGEST_MESSAGE}
    await GRPCServer(port, DataPlane(models), ModelRepositoryExtension(models), limits).start(4)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
