"""Options and fixtures shared by all tests."""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

SERVER = Path(__file__).parent / "server"


class _Hidden(MetaPathFinder):
    """Makes packages look as if they were not installed."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002 (the interface)
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r} (hidden by --without-torch)", name=fullname)
        return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--without-torch", action="store_true", help="run as if torch, onnx and safetensors were missing")
    parser.addoption(
        "--but-without-torch",
        action="store_true",
        help="leave out what `pytest tests/server --without-torch` runs: CI calls both, and each test once",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-torch"):
        sys.meta_path.insert(0, _Hidden("torch", "onnx", "safetensors"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    elsewhere = [item for item in items if SERVER in item.path.parents and not _needs_torch(item)]
    if config.getoption("--without-torch"):
        for item in items:
            if _needs_torch(item):
                item.add_marker(pytest.mark.skip(reason="needs torch or onnx, which --without-torch hides"))
    elif config.getoption("--but-without-torch"):
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in set(elsewhere)]


def _needs_torch(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("live", "onnx"))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No option of the developer's own shell reaches a test."""
    for name in [name for name in os.environ if name.startswith("NEXTVALUE_")]:
        monkeypatch.delenv(name)
