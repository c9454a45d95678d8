"""Buildah and podman on a storage folder of their own, without a daemon, systemd or a network of containers."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What nobody may be.
USER = 65532
# As the Deployment has it: a root that cannot be written to, no capability, nobody who is root, no way to become it.
LOCKED = (
    "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096", "--read-only", "--cap-drop=all",
    "--security-opt=no-new-privileges", f"--user={USER}", "--no-healthcheck",
)  # fmt: skip


class ToolError(Exception):
    """A tool failed; what it said."""


def said(command: Sequence[str], *, check: bool = True, timeout_seconds: float = 3600) -> str:
    """Everything that a command prints. Raises ToolError if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_seconds
    )
    if check and done.returncode:
        raise ToolError(f"{' '.join(command)}: {done.stdout[-4000:]}")
    return done.stdout


@dataclass(frozen=True)
class Storage:
    """Where images and containers lie. `build_options` go to every `buildah bud`."""

    folder: Path
    build_options: tuple[str, ...] = ()

    @property
    def _places(self) -> list[str]:
        return ["--storage-driver", "vfs", "--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]

    @property
    def buildah(self) -> list[str]:
        """The command."""
        return ["buildah", *self._places]

    @property
    def podman(self) -> list[str]:
        """The command."""
        return ["podman", *self._places, "--runtime", "runc", "--cgroup-manager=cgroupfs"]

    def debian(self, release: str, packages: str, name: str) -> str:
        """An image of Debian and some packages, made by mmdebstrap; returns its name."""
        tar = self.folder / f"{name}.tar"
        said(["mmdebstrap", "--variant=minbase", f"--include={packages}", release, str(tar)])
        container = said([*self.buildah, "from", "scratch"]).split()[-1]
        said([*self.buildah, "add", container, str(tar), "/"])
        said([*self.buildah, "commit", "--format", "docker", "--rm", container, f"localhost/{name}:{release}"])
        tar.unlink()
        return f"localhost/{name}:{release}"

    def build(self, target: str, base: str, build_base: str) -> str:
        """One target of our Containerfile; returns the image's name."""
        name = f"localhost/nextvalue-{target}:checked"
        command = [*self.buildah, "bud", "--isolation", "chroot", "--network", "host", "--format", "docker"]
        said([
            *command, "--target", target, "--tag", name, "--build-arg", f"BASE={base}",
            "--build-arg", f"BUILD_BASE={build_base}", *self.build_options, "--file", "deploy/image/Containerfile", ".",
        ])  # fmt: skip
        return name

    def image_bytes(self, name: str) -> int:
        """The size of an image with all it stands on."""
        size: int = self.inspect("image", name)["Size"]
        return size

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """What podman knows of an image or a container."""
        found: list[dict[str, Any]] = json.loads(said([*self.podman, kind, "inspect", name]))
        return found[0]

    @contextmanager
    def created(self, image: str, *arguments: str, mounts: Sequence[str] = ()) -> Iterator["Container"]:
        """A container that is not started yet; removed in the end."""
        volumes = [each for mount in mounts for each in ("--volume", mount)]
        container = said([*self.podman, "create", *LOCKED, *volumes, image, *arguments]).split()[-1]
        try:
            yield Container(self, container)
        finally:
            said([*self.podman, "rm", "--force", "--time", "40", container])

    def remove(self) -> None:
        """Everything in it."""
        said([*self.podman, "system", "reset", "--force"], check=False)
        said(["rm", "-rf", str(self.folder)])


@dataclass(frozen=True)
class Container:
    """One container."""

    storage: Storage
    name: str

    def start(self) -> None:
        """Start it; it may not be ready."""
        said([*self.storage.podman, "start", self.name])

    def execute(self, *command: str, check: bool = True) -> str:
        """What a command prints that is run in it."""
        return said([*self.storage.podman, "exec", self.name, *command], check=check)

    def stop(self) -> int:
        """SIGTERM, and what its process returned."""
        said([*self.storage.podman, "stop", "--time", "40", self.name])
        return self.wait()

    def wait(self) -> int:
        """What its process returned, once it has ended."""
        return int(said([*self.storage.podman, "wait", self.name], timeout_seconds=60).split()[-1])

    def log(self) -> str:
        """What it has said."""
        return said([*self.storage.podman, "logs", self.name])
