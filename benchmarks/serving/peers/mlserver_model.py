"""An ONNX graph in mlserver: what its users write to serve one. Runs in mlserver's environment."""

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):  # type: ignore[misc]  # ships no types
    """Input x, output y."""

    async def load(self) -> bool:
        """Read the graph; one thread, as every server beside it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(self.settings.parameters.uri, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run it."""
        (given,) = payload.inputs
        (found,) = self._session.run(["y"], {"x": NumpyCodec.decode_input(given)})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", found)])
