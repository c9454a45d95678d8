"""python -m tests.e2e.triton_tools TARGET < windows.npy: what tritonclient's tools ask of a server, as JSON.

Configuration, statistics, the repository; loading and unloading. A program of its own, for the reason that
triton_calls is.
"""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException


def refusal(call: Callable[[], object]) -> str:
    """How a call failed."""
    try:
        return f"answered: {call()}"
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"


def infer(client: triton.InferenceServerClient, windows: np.ndarray, **options: Any) -> triton.InferResult:
    """All outputs, by what tritonclient sends without further words."""
    tensor = triton.InferInput("window", list(windows.shape), "FP32")
    tensor.set_data_from_numpy(windows)
    return client.infer("demo", [tensor], **options)


def main() -> None:
    """Call everything, print what came back."""
    windows = np.load(io.BytesIO(sys.stdin.buffer.read()))
    with triton.InferenceServerClient(sys.argv[1]) as client:
        answers: dict[str, Any] = {
            "extensions": client.get_server_metadata(as_json=True)["extensions"],
            "config": client.get_model_config("demo", as_json=True),
            "before": client.get_inference_statistics("demo", as_json=True),
        }
        result = infer(client, windows, request_id="one", priority=1, timeout=1_000_000, sequence_id=7)
        answers["id"] = result.get_response().id
        answers["next"] = result.as_numpy("next").tolist()
        output = triton.InferRequestedOutput("next", class_count=2)
        answers["classes"] = refusal(lambda: infer(client, windows, outputs=[output]))
        output = triton.InferRequestedOutput("elsewhere")
        answers["unknown_output"] = refusal(lambda: infer(client, windows, outputs=[output]))
        shared = triton.InferInput("window", list(windows.shape), "FP32")
        shared.set_shared_memory("region", windows.nbytes)
        answers["shared"] = refusal(lambda: client.infer("demo", [shared]))
        answers["after"] = client.get_inference_statistics("demo", "1", as_json=True)
        answers["all"] = [each["name"] for each in client.get_inference_statistics(as_json=True)["model_stats"]]
        answers["index"] = client.get_model_repository_index(as_json=True)["models"]
        client.unload_model("demo")
        answers["unloaded"] = {
            "ready": client.is_model_ready("demo"),
            "server_ready": client.is_server_ready(),
            "infer": refusal(lambda: infer(client, windows)),
            "index": client.get_model_repository_index(as_json=True)["models"],
        }
        client.load_model("demo")
        answers["loaded"] = {
            "ready": client.is_model_ready("demo"),
            "next": infer(client, windows).as_numpy("next").tolist(),
        }
        answers["no_such_folder"] = refusal(lambda: client.load_model("nobody"))
        answers["own_config"] = refusal(lambda: client.load_model("demo", config="{}"))
        answers["trace"] = refusal(client.get_trace_settings)
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
