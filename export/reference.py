"""python -m export.reference: the torch reference in a process of its own, for servers to check themselves against.

Listens on a unix socket; any number of servers may connect. Request and reply are frames (export.artifact.frames):

    {"type": "hello"}                                          → {"type": "ready"}
    {"type": "run", "model", "version", "graph"}, input arrays → {"type": "result"}, output arrays float64
                                                               → {"type": "error", "message"}
"""

import argparse
import contextlib
import logging
import os
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch

from export.artifact.errors import ArtifactError
from export.artifact.folder import WEIGHTS, Artifact
from export.artifact.frames import Frame, FrameError, receive, send
from export.artifact.manifest import Manifest, is_model_name
from export.evaluate import Reference
from training.model import ModelConfig, RecurrentModel

logger = logging.getLogger("nextvalue.reference")

MAX_LOADED = 32


def load_reference(models: Path, name: str, version: int) -> Reference:
    """The reference of one artifact, rebuilt from its manifest and weights. Raises ArtifactError."""
    artifact = Artifact(models / name / str(version))
    model = RecurrentModel(model_config(artifact.manifest))
    try:
        model.load_state_dict(safetensors.torch.load(artifact.read(WEIGHTS)))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ArtifactError(f"{WEIGHTS}: {error}") from None
    return Reference(model, rollout=artifact.manifest.rollout)


def model_config(manifest: Manifest) -> ModelConfig:
    """The model's shape as its manifest tells it."""
    return ModelConfig(
        cell=manifest.cell,
        window=manifest.window,
        num_features=len(manifest.features),
        hidden_size=manifest.hidden_size,
        num_layers=manifest.num_layers,
        transform=manifest.transform.kind,
        transition_depth=manifest.transition_depth,
        residual=manifest.residual,
        output_depth=manifest.output_depth,
        linear_skip=manifest.linear_skip,
        horizon=manifest.direct_horizon,
        calendar=tuple(manifest.calendar),
        scaling=manifest.scaling.kind,
        num_series=manifest.scaling.num_series,
        intervals=manifest.intervals.kind if manifest.intervals else "none",
        levels=tuple(manifest.intervals.levels) if manifest.intervals else (),
    )


class ReferenceServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread per connected server; models are loaded when first asked for and kept."""

    daemon_threads = True

    def __init__(self, path: Path, models: Path) -> None:
        self.load = lru_cache(maxsize=MAX_LOADED)(lambda name, version: load_reference(models, name, version))
        self.computing = threading.Lock()
        super().__init__(str(path), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: ReferenceServer
    request: socket.socket

    def handle(self) -> None:
        try:
            while (frame := receive(self.request)) is not None:
                send(self.request, self._answer(frame))
        except (FrameError, OSError) as error:
            logger.warning("connection dropped: %s", error)

    def _answer(self, frame: Frame) -> Frame:
        if frame.fields.get("type") == "hello":
            # Whoever looks after it learns by this that a computation hangs, be it another connection's.
            with self.server.computing:
                return Frame({"type": "ready"}, {})
        try:
            name, version, graph = (frame.fields[key] for key in ("model", "version", "graph"))
            if not is_model_name(str(name)):
                raise ArtifactError(f"model is {name!r}; that is no model's name")
            with self.server.computing:
                outputs = self.server.load(str(name), int(version)).run(str(graph), dict(frame.arrays))
            return Frame({"type": "result"}, dict(outputs))
        except Exception as error:  # noqa: BLE001 (whatever torch makes of the inputs is the asker's to hear)
            return Frame({"type": "error", "message": f"{type(error).__name__}: {error}"}, {})


def _exit_with_parent(parent: int) -> None:
    """A reference started by a server must not outlive it, however the server ended."""
    waiter = threading.Event()
    while not waiter.wait(1.0):
        if os.getppid() != parent:
            os._exit(0)


def is_answered(path: Path) -> bool:
    """Whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.reference", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--listen", required=True, metavar="unix:PATH", help="the socket to listen on")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="the model repository")
    parser.add_argument(
        "--exit-with-parent", type=int, metavar="PID", help="end when PID is no longer the parent process"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    scheme, _, path_text = options.listen.partition(":")
    if scheme != "unix" or not path_text:
        print(f"reference: listen is {options.listen!r}; it must be unix:PATH", file=sys.stderr)
        return 1
    if not options.models.is_dir():
        print(f"reference: models is {str(options.models)!r}; there is no such folder", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    path = Path(path_text)
    try:
        if path.is_socket():  # anything else at this path is not ours to remove
            if is_answered(path):
                print(f"reference: listen is {options.listen!r}; another reference answers there", file=sys.stderr)
                return 1
            path.unlink()  # left by one that was killed
        server = ReferenceServer(path, options.models)
    except OSError as error:
        print(f"reference: cannot listen on {path}: {error.strerror or error}", file=sys.stderr)
        return 1
    if options.exit_with_parent:
        threading.Thread(target=_exit_with_parent, args=(options.exit_with_parent,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
