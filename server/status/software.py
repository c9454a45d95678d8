"""Versions of what serves, from what is installed: nothing is imported for it."""

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

# Of several names for one thing the first that is installed.
_PACKAGES = {
    "nextvalue": ("nextvalue",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
    "grpcio": ("grpcio",),
    "protobuf": ("protobuf",),
    "numpy": ("numpy",),
    "prometheus-client": ("prometheus-client",),
    "uvloop": ("uvloop",),
}


@lru_cache(maxsize=1)
def software() -> dict[str, str]:
    """Version by name."""
    found = {"Python": platform.python_version()}
    for name, packages in _PACKAGES.items():
        for package in packages:
            try:
                found[name] = version(package) + (" (GPU wheel)" if package.endswith("-gpu") else "")
                break
            except PackageNotFoundError:
                continue
    return found
