"""python -m tests.e2e.triton_load TARGET FILE.npz THREADS: tritonclient calls until standard input ends.

FILE.npz has `windows` [N, T, F] and what must come back, `expected` [N, 1]. What came of all calls is printed as JSON.
tritonclient retries nothing by itself, and nor does this.
"""

import json
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

TIMEOUT_SECONDS = 60.0


class Calls:
    """What came of them."""

    def __init__(self, target: str, file: Path) -> None:
        with np.load(file) as arrays:
            self._windows, self._expected = arrays["windows"], arrays["expected"]
        self._target = target
        self._lock = threading.Lock()
        self.ending = threading.Event()
        self.num_right = self.num_wrong = 0
        self.refused: Counter[str] = Counter()

    def run(self, seed: int) -> None:
        """One caller, with a connection of its own."""
        generator = np.random.default_rng(seed)
        options = [("grpc.use_local_subchannel_pool", 1)]
        with triton.InferenceServerClient(self._target, channel_args=options) as client:
            while not self.ending.is_set():
                self._call(client, int(generator.integers(len(self._windows))))

    def _call(self, client: triton.InferenceServerClient, row: int) -> None:
        window = self._windows[row : row + 1]
        tensor = triton.InferInput("window", list(window.shape), "FP32")
        tensor.set_data_from_numpy(window)
        try:
            found = client.infer("demo", [tensor], client_timeout=TIMEOUT_SECONDS).as_numpy("next")
        except InferenceServerException as error:
            with self._lock:
                self.refused[f"{error.status()}: {error.message()}"] += 1
        else:
            is_right = np.allclose(found, self._expected[row : row + 1], rtol=1e-4)
            with self._lock:
                self.num_right += is_right
                self.num_wrong += not is_right


def main() -> None:
    """Call, and say what came of it."""
    target, file, threads = sys.argv[1:]
    calls = Calls(target, Path(file))
    callers = [threading.Thread(target=calls.run, args=(seed,)) for seed in range(int(threads))]
    for each in callers:
        each.start()
    sys.stdin.read()
    calls.ending.set()
    for each in callers:
        each.join()
    found = {"right": calls.num_right, "wrong": calls.num_wrong, "refused": dict(calls.refused)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
