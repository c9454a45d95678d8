"""The server needs neither torch nor anything of training and export beyond the artifact format."""

import pkgutil
import subprocess
import sys

import pytest

import server

MODULES = ["server", *(module.name for module in pkgutil.walk_packages(server.__path__, "server."))]
LOOK = """
import importlib, sys
importlib.import_module(sys.argv[1])
forbidden = {"torch", "training", "onnx", "safetensors"}
print(*(
    name for name in sorted(sys.modules)
    if name.partition(".")[0] in forbidden
    or (name.startswith("export.") and name != "export.artifact" and not name.startswith("export.artifact."))
))
"""


def test_every_module_is_found() -> None:
    assert {"server.app", "server.transport.calls", "server.parity.link", "server.__main__"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_fresh_interpreter_sees_nothing_of_training(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOOK, module], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
