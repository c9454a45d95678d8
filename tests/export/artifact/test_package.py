import pkgutil
import subprocess
import sys
from pathlib import Path

import export
import export.artifact


def test_export_package_is_empty() -> None:
    """The server imports export.artifact, and with it whatever export/__init__.py would import."""
    assert Path(export.__file__ or "").read_bytes() == b""


def test_artifact_format_needs_neither_torch_nor_training_nor_onnx() -> None:
    modules = [
        "export.artifact",
        *(f"export.artifact.{module.name}" for module in pkgutil.iter_modules(export.artifact.__path__)),
    ]
    assert "export.artifact.folder" in modules
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
heavy = {{"torch", "training", "onnx", "onnxruntime", "safetensors", "server", "grpc"}}
print(sorted(heavy & {{name.partition(".")[0] for name in sys.modules}}))
print(sorted(name for name in sys.modules if name.startswith("export.") and not name.startswith("export.artifact")))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n[]\n"
