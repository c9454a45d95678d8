"""Runs in OpenVINO's own environment: a line of JSON in, a line of JSON out.

{"load": file, "windows": array file}    -> number of the request, its input bound
{"run": number, "repeats": n}            -> seconds for n runs
{"value": number, "into": array file}    -> nothing; the last output is in the file
{"clear": true}                          -> nothing; all requests are gone
"""

import json
import sys
import time
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-not-found]

SETTINGS = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
}


class Requests:
    """What was loaded, by number."""

    def __init__(self) -> None:
        self._core = ov.Core()
        self._requests: list[Any] = []

    def answer(self, question: dict[str, Any]) -> int | float | None:
        """To a line of JSON."""
        if "load" in question:
            return self._load(question["load"], np.load(question["windows"]))
        if "run" in question:
            return self._run(self._requests[question["run"]], question["repeats"])
        if "value" in question:
            np.save(question["into"], self._requests[question["value"]].get_output_tensor().data)
        else:
            self._requests.clear()
        return None

    def _load(self, graph: str, windows_BTF: np.ndarray) -> int:
        model = self._core.read_model(graph)
        model.reshape(list(windows_BTF.shape))
        request = self._core.compile_model(model, "CPU", SETTINGS).create_infer_request()
        request.set_input_tensor(ov.Tensor(windows_BTF))
        self._requests.append(request)
        return len(self._requests) - 1

    def _run(self, request: Any, repeats: int) -> float:
        begun = time.perf_counter()
        for _ in range(repeats):
            request.infer()
        return time.perf_counter() - begun


if __name__ == "__main__":
    requests = Requests()
    for line in sys.stdin:
        print(json.dumps(requests.answer(json.loads(line))), flush=True)
