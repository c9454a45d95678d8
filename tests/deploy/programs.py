"""Whether what a container is told to run takes the options that it is given: asked of the programs' own parsers."""

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from export.__main__ import parser as export_parser
from export.artifact.__main__ import parser as artifact_parser
from training.__main__ import parser as training_parser

# What the training operator looks for in a PyTorchJob's pods.
WORKER, WORKER_PORT = "pytorch", ("pytorchjob-port", 23456)

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "training": training_parser,
    "export": export_parser,
    "export.artifact": artifact_parser,
}
# Options that are a file or a folder, and whether it is the folder itself that must be mounted.
PATHS = {"data": False, "out": False, "run": False, "models": True}


def program(container: Mapping[str, Any], mounts: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a container of `nextvalue-train`, or with a command of its own; `mounts`: volume to folder."""
    name, arguments = container["name"], list(container.get("args", []))
    command = list(container.get("command", ["python", "-m"]))
    if command[:2] != ["python", "-m"]:
        yield f"{name}: the command is {command}"
        return
    words: list[str] = [*command[2:], *arguments]
    module, options = "".join(words[:1]), words[1:]
    if module not in PARSERS:
        yield f"{name}: {module!r} is not one of {', '.join(PARSERS)}"
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = vars(PARSERS[module]().parse_args(options))
    except SystemExit:
        yield f"{name}: {said.getvalue().strip()}"
        return
    for option, is_folder in PATHS.items():
        value = parsed.get(option)
        if value is not None and str(value if is_folder else Path(value).parent) not in mounts.values():
            yield f"{name}: nothing is mounted for {option} {value}"
    if module != "export.artifact" and "/tmp" not in mounts.values():  # noqa: S108 (where the images write)
        yield f"{name}: nothing is mounted at /tmp, and the root is read-only"


def workers(job: Mapping[str, Any]) -> Iterator[str]:
    """A PyTorchJob whose pods have not what the operator goes by."""
    for role, replicas in job["spec"]["pytorchReplicaSpecs"].items():
        containers = replicas["template"]["spec"]["containers"]
        ports = [(port["name"], port["containerPort"]) for each in containers for port in each.get("ports", ())]
        if [each["name"] for each in containers] != [WORKER] or ports != [WORKER_PORT]:
            yield f"{role}: must have one container {WORKER!r} with the port {WORKER_PORT}"
