"""Page-locked host memory, which a GPU reads without a copy in between.

onnxruntime's Python interface gives none (it knows no device "cuda_pinned"), so the driver does, which it has loaded.
"""

import ctypes
import logging
import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

logger = logging.getLogger("nextvalue.pinned")

DRIVER = "libcuda.so.1"
# For every context of the process, not just the one of this thread (CU_MEMHOSTALLOC_PORTABLE).
PORTABLE = 1


def pinned_zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros in page-locked memory; in ordinary memory where the driver gives none, which costs time alone.

    The thread must have used the device before: its context is asked.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return np.zeros(shape, dtype)
    context, address = ctypes.c_void_p(), ctypes.c_void_p()
    status = driver.cuCtxGetCurrent(ctypes.byref(context)) or driver.cuMemHostAlloc(
        ctypes.byref(address), ctypes.c_size_t(size), ctypes.c_uint(PORTABLE)
    )
    if status != 0 or not address.value:
        logger.info("inputs are not pinned: the driver answers %d", status)
        return np.zeros(shape, dtype)
    # The driver's own memory, and not numpy's made page-locked: were that freed first, its address could be given to
    # another array while the GPU still reads the old pages.
    memory = (ctypes.c_byte * size).from_address(address.value)
    weakref.finalize(memory, _free, driver, context, address).atexit = False
    # The view keeps `memory`, and arrays keep the view.
    array: NDArray[Any] = np.frombuffer(memoryview(memory), dtype)
    array[...] = 0
    return array.reshape(shape)


def _free(driver: ctypes.CDLL, context: ctypes.c_void_p, address: ctypes.c_void_p) -> None:
    """From whatever thread lets the last reference go, so the context is made current for the call."""
    if driver.cuCtxPushCurrent_v2(context) == 0:
        driver.cuMemFreeHost(address)
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
