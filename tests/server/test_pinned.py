"""Page-locked memory, on machines that have a driver and on those that do not."""

import ctypes
import gc

import numpy as np
import pytest

from server.pinned import PORTABLE, pinned_zeros


class FakeDriver:
    """libcuda.so.1 that gives memory of this process, and remembers what it was asked for and what it got back."""

    CONTEXT = 7

    def __init__(self, *, status: int = 0) -> None:
        self.status = status
        self.given: dict[int, object] = {}
        self.freed: list[int] = []
        self.current: list[int] = []

    def cuCtxGetCurrent(self, context: object) -> int:  # noqa: N802 (NVIDIA's name)
        context._obj.value = self.CONTEXT  # type: ignore[attr-defined]  # what ctypes.byref points to
        return 0

    def cuMemHostAlloc(self, address: object, size: ctypes.c_size_t, flags: ctypes.c_uint) -> int:  # noqa: N802
        assert flags.value == PORTABLE
        if self.status == 0:
            memory = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
            address._obj.value = ctypes.addressof(memory)  # type: ignore[attr-defined]  # as above
            self.given[ctypes.addressof(memory)] = memory
        return self.status

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:  # noqa: N802
        assert context.value is not None
        self.current.append(context.value)
        return 0

    def cuCtxPopCurrent_v2(self, _: object) -> int:  # noqa: N802
        self.current.pop()
        return 0

    def cuMemFreeHost(self, address: ctypes.c_void_p) -> int:  # noqa: N802
        assert self.current == [self.CONTEXT], "freed without the context it came from"
        assert address.value is not None
        self.freed.append(address.value)
        return 0


def _with(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> FakeDriver:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: driver)
    return driver


def test_the_driver_s_memory_is_given_back_when_nobody_looks_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _with(monkeypatch, FakeDriver())
    array = pinned_zeros([2, 3], np.float32)
    ((address, _),) = driver.given.items()
    assert array.ctypes.data == address
    np.testing.assert_array_equal(array, np.zeros((2, 3), np.float32))
    array[...] = 5
    view = array[:1]
    del array
    gc.collect()
    assert driver.freed == []
    del view
    gc.collect()
    assert driver.freed == [address]
    assert driver.current == []


def test_without_memory_of_the_driver_it_is_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = _with(monkeypatch, FakeDriver(status=2))
    array = pinned_zeros([4], np.int64)
    assert array.tolist() == [0, 0, 0, 0]
    del array
    gc.collect()
    assert driver.freed == []


def test_without_a_driver_it_is_ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert pinned_zeros([2, 1], np.float32).tolist() == [[0.0], [0.0]]
