"""What a figure was measured on, in a line."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_machine(*libraries: str) -> str:
    """Processor, cores, Python, the versions of `libraries`, and the day."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    versions = ", ".join(_version(library) for library in libraries)
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}; "
        f"{datetime.now(tz=UTC):%Y-%m-%d}"
    )


def _version(library: str) -> str:
    """Name and version of what is installed; onnxruntime comes in several packages."""
    for name in (library, f"{library}-gpu"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return f"{library} (not installed)"
