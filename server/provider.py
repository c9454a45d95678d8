"""Which execution provider runs the graphs, decided once at start-up."""

import ctypes
import logging
from dataclasses import dataclass
from typing import Any, Literal

import onnxruntime as ort

from server.errors import StartupError

logger = logging.getLogger("nextvalue.provider")

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Choice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Provider:
    """An execution provider and the options its sessions get. `exclusive`: no node may run anywhere else."""

    name: str
    options: dict[str, Any]
    exclusive: bool


# One Sigmoid as an ONNX model, opset 20 (tests/server/test_provider.py makes it again): the server has no onnx.
PROBE = bytes.fromhex(
    "08093a360a0f0a017812017922075369676d6f69641201705a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001014"
)


def choose_provider(choice: Choice) -> Provider:
    """CPU, CUDA, or CUDA if there is one. Raises StartupError if CUDA is demanded and cannot be had."""
    cpu = Provider(CPU, {}, exclusive=False)
    if choice == "cpu":
        return cpu
    # TF32 rounds inputs to 10 bits; parity with a float32 reference needs it off.
    cuda = Provider(CUDA, {"use_tf32": 0}, exclusive=choice == "cuda")
    missing = _why_no_device() or _why_no_session(cuda)
    if missing is None:
        return cuda
    if choice == "cuda":
        raise StartupError(f"provider is 'cuda' but CUDA cannot be had: {missing}")
    logger.info("no CUDA, so on the CPU: %s", missing)
    return cpu


def _why_no_device() -> str | None:
    """None if this onnxruntime knows CUDA and the driver sees a device."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime has no CUDA provider (install onnxruntime-gpu)"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) on this machine"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit gives {status})"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return "no NVIDIA GPU is visible"
    return None


def _why_no_session(cuda: Provider) -> str | None:
    """None if a session really runs on CUDA. With a driver alone onnxruntime warns and takes the CPU."""
    ort.preload_dlls()
    ort.set_default_logger_severity(4)  # its warnings name the same thing in many lines
    try:
        session = ort.InferenceSession(PROBE, providers=[(cuda.name, cuda.options)])
    except Exception as error:  # noqa: BLE001 (onnxruntime raises classes of its own that share no base)
        return f"onnxruntime cannot start it: {error}"
    finally:
        ort.set_default_logger_severity(2)
    if cuda.name not in session.get_providers():
        return "onnxruntime cannot load its CUDA libraries (pip install 'nextvalue[gpu]' brings CUDA, cuDNN and cuBLAS)"
    return None
