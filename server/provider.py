"""Which execution provider runs the graphs, decided once at start-up."""

import ctypes
from dataclasses import dataclass
from typing import Any, Literal

import onnxruntime as ort

from server.errors import StartupError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

Choice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Provider:
    """An execution provider and the options its sessions get. `exclusive`: no node may run anywhere else."""

    name: str
    options: dict[str, Any]
    exclusive: bool


def choose_provider(choice: Choice) -> Provider:
    """CPU, CUDA, or CUDA if there is one. Raises StartupError if CUDA is demanded and cannot be had."""
    if choice == "cpu":
        return Provider(CPU, {}, exclusive=False)
    missing = _why_no_cuda()
    if missing is None:
        ort.preload_dlls()
        # TF32 rounds inputs to 10 bits; parity with a float32 reference needs it off.
        return Provider(CUDA, {"use_tf32": 0}, exclusive=choice == "cuda")
    if choice == "cuda":
        raise StartupError(f"provider is 'cuda' but CUDA cannot be had: {missing}")
    return Provider(CPU, {}, exclusive=False)


def _why_no_cuda() -> str | None:
    """None if a CUDA device and a provider for it are there. onnxruntime itself would only warn and use the CPU."""
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
