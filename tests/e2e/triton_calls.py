"""python -m tests.e2e.triton_calls TARGET < windows.npy: what tritonclient makes of a server, as JSON.

A program of its own: tritonclient registers the protobuf symbols of the same protocol that server.pb does.
"""

import io
import json
import sys

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException


def infer(client: triton.InferenceServerClient, windows: np.ndarray, **options: object) -> list[list[float]]:
    """Predictions read by as_numpy."""
    tensor = triton.InferInput("window", list(windows.shape), "FP32")
    tensor.set_data_from_numpy(windows)
    result = client.infer("demo", [tensor], outputs=[triton.InferRequestedOutput("next")], **options)
    rows: list[list[float]] = result.as_numpy("next").tolist()
    return rows


def main() -> None:
    """Call everything, print what came back."""
    windows = np.load(io.BytesIO(sys.stdin.buffer.read()))
    with triton.InferenceServerClient(sys.argv[1]) as client:
        try:
            infer(client, windows[:, :3])
            refused = "answered"
        except InferenceServerException as error:
            refused = f"{error.status()}: {error.message()}"
        answers = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("demo"),
            "nobody_ready": client.is_model_ready("nobody"),
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata("demo", as_json=True),
            "one": infer(client, windows),
            "version": infer(client, windows, model_version="1"),
            "five": infer(client, windows, parameters={"horizon": 5}),
            "refused": refused,
        }
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
