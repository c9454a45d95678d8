"""Callers of tritonclient's asyncio client: triton_callers TARGET WINDOWS.npy EXPECTED.npy CALLERS SECONDS.

A process of its own, since tritonclient brings the protocol's messages under the names that ours have. Prints calls
a second.
"""

import asyncio
import sys

import numpy as np
import tritonclient.grpc.aio as client

from benchmarks.serving.callers import rate

CLOSE = 1e-5


async def main(target: str, windows: str, expected: str, num_callers: int, seconds: float) -> None:
    """Callers that ask again as soon as they are answered. Raises RuntimeError on a wrong answer."""
    windows_NTF, expected_N1 = np.load(windows), np.load(expected)
    triton = client.InferenceServerClient(target)

    async def ask(k: int) -> None:
        given = client.InferInput("x", list(windows_NTF[k : k + 1].shape), "FP32")
        given.set_data_from_numpy(windows_NTF[k : k + 1])
        reply = await triton.infer("lstm", [given], client_timeout=30)
        if not abs(reply.as_numpy("y")[0, 0] - expected_N1[k, 0]) <= CLOSE:
            raise RuntimeError(f"window {k}: a wrong answer")

    print(await rate(ask, num_callers, seconds))
    await triton.close()


if __name__ == "__main__":
    target, windows, expected, num_callers, seconds = sys.argv[1:]
    asyncio.run(main(target, windows, expected, int(num_callers), float(seconds)))
