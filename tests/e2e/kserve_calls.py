"""PYTHON tests/e2e/kserve_calls.py TARGET < inputs.npz: what KServe's InferenceGRPCClient makes of a server, as JSON.

PYTHON is that of KServe's own environment (make kserve), where nothing of ours is installed.
"""

import asyncio
import io
import json
import logging
import sys
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput

DATATYPES = {"float32": "FP32", "int64": "INT64"}


def tensor(name: str, array: np.ndarray, *, raw: bool) -> InferInput:
    """One input, raw or typed."""
    made = InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
    made.set_data_from_numpy(array, binary_data=raw)
    return made


async def infer(client: InferenceGRPCClient, model: str, inputs: list[InferInput], **options: Any) -> dict[str, Any]:
    """Answer's id and version, and outputs by name."""
    reply = await client.infer(InferRequest(model_name=model, infer_inputs=inputs, **options))
    return {
        "id": reply.id,
        "version": reply.model_version,
        **{output.name: output.as_numpy().tolist() for output in reply.outputs},
    }


async def refusal(client: InferenceGRPCClient, model: str, inputs: list[InferInput], **options: Any) -> str:
    """How a call failed."""
    try:
        return f"answered: {await infer(client, model, inputs, **options)}"
    except grpc.RpcError as error:
        return f"{error.code()}: {error.details()}"


async def call(target: str, demo: np.ndarray, demand: dict[str, np.ndarray], ids: list[str]) -> dict[str, Any]:
    """Everything that the client can do."""
    known = [tensor(name, array, raw=False) for name, array in demand.items()]
    by_id = [each for each in known if each.name != "series"]
    by_id.append(InferInput("series", [len(ids), 1], "BYTES", data=ids))
    async with InferenceGRPCClient(target) as client:
        window = tensor("window", demo, raw=True)
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("demo"),
            "nobody_ready": await client.is_model_ready("nobody"),
            "raw": await infer(client, "demo", [window], request_id="kserve-1"),
            "typed": await infer(client, "demo", [tensor("window", demo, raw=False)]),
            "five": await infer(client, "demo", [window], parameters={"horizon": 5}, model_version="1"),
            "by_number": await infer(client, "demand", known),
            "by_id": await infer(client, "demand", by_id),
            "upper": await infer(client, "demand", known, request_outputs=[RequestedOutput("upper")]),
            "nobody": await refusal(client, "nobody", [window]),
            "shape": await refusal(client, "demo", [tensor("window", demo[:, :3].copy(), raw=True)]),
            "output": await refusal(client, "demo", [window], request_outputs=[RequestedOutput("elsewhere")]),
        }


def main() -> None:
    """Call everything, print what came back."""
    logging.disable(logging.CRITICAL)  # it logs every refusal with a traceback
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as archive:
        arrays = dict(archive)
    demo, ids = arrays.pop("demo"), [str(each) for each in arrays.pop("ids")]
    sys.stdout.write(json.dumps(asyncio.run(call(sys.argv[1], demo, arrays, ids))))


if __name__ == "__main__":
    main()
