"""python -m tests.e2e.triton_context TARGET < inputs.npz: the model `demand` by tritonclient, as JSON.

A program of its own, for the reason that triton_calls is.
"""

import io
import json
import sys
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


def infer(client: triton.InferenceServerClient, arrays: dict[str, Any], outputs: list[str], **options: Any) -> Any:
    """Outputs by name; those asked for, or all."""
    tensors = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    requested = [triton.InferRequestedOutput(name) for name in outputs]
    result = client.infer("demand", tensors, outputs=requested or None, **options)
    return {output.name: result.as_numpy(output.name).tolist() for output in result.get_response().outputs}


def main() -> None:
    """Call everything, print what came back."""
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as archive:
        arrays = dict(archive)
    future = arrays.pop("future")
    with triton.InferenceServerClient(sys.argv[1]) as client:
        metadata = client.get_model_metadata("demand", as_json=True)
        try:
            infer(client, {name: array for name, array in arrays.items() if name != "series"}, [])
            refused = "answered"
        except InferenceServerException as error:
            refused = f"{error.status()}: {error.message()}"
        answers = {
            "inputs": metadata["inputs"],
            "outputs": metadata["outputs"],
            "all": infer(client, arrays, []),
            "upper": infer(client, arrays, ["upper"]),
            "five": infer(client, arrays | {"future": future}, [], parameters={"horizon": 5}),
            "refused": refused,
        }
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
