"""Build our images, run them as locked as in a cluster, and write down what they are.

    python -m benchmarks.images --debian bookworm
    python -m benchmarks.images --base docker.io/library/python:3.11-slim-bookworm --targets cpu

Needs buildah, podman and runc, as root; --debian also mmdebstrap, which then makes the bases. What `buildah bud` is to
get besides goes behind --: `-- --build-arg PIP_INDEX_URL=… --volume HOST:CONTAINER:ro`. Everything is put into a folder
of its own, which is removed in the end. Returns 1 if something does not hold.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.images import checks
from benchmarks.images.storage import Storage, ToolError
from benchmarks.machine import describe_machine

RESULTS = Path(__file__).parents[1] / "results" / "images.md"
TARGETS = ("cpu", "gpu", "reference", "train")
MAX_ADDED_MB = 600
MAX_READY_SECONDS = 3.0
MB = 10**6


def say(text: str) -> None:
    """Progress, which takes minutes."""
    print(text, file=sys.stderr, flush=True)


def measure(storage: Storage, targets: Sequence[str], base: str, build_base: str, models: Path) -> list[str]:
    """Build and check; the lines of the table. Raises CheckError or ToolError."""
    images: dict[str, str] = {}
    sizes: dict[str, float] = {}
    base_mb = storage.image_bytes(base) / MB
    rows = []
    for target in targets:
        say(f"build {target}")
        images[target] = storage.build(target, base, build_base)
        sizes[target] = storage.image_bytes(images[target]) / MB - base_mb
    if "cpu" in images:
        say("check cpu")
        checks.check_cpu(storage, images["cpu"], models)
        seconds = checks.ready_seconds(storage, images["cpu"], models)
        median = checks.median(seconds)
        checks.expect(sizes["cpu"] <= MAX_ADDED_MB, f"cpu adds {sizes['cpu']:.0f} MB")
        checks.expect(median <= MAX_READY_SECONDS, f"cpu is ready after {median:.2f} s")
        spread = f"median of {len(seconds)} starts {median:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f})"
        rows.append(
            f"| `cpu` | {sizes['cpu']:.0f} | healthy by its own command; answers; SIGTERM: 0; ready: {spread} |"
        )
    if "gpu" in images:
        say("check gpu")
        line = checks.check_gpu(storage, images["gpu"], models)
        rows.append(f"| `gpu` | {sizes['gpu']:,.0f} | without a GPU: status 1, and only `{line}` |")
    if {"cpu", "reference"} <= images.keys():
        say("check reference")
        found = checks.check_reference(storage, images, models, storage.folder / "socket")
        rows.append(
            f"| `reference` | {sizes['reference']:,.0f} | beside `cpu`, a unix socket between them: "
            f"{found} checks, no mismatch |"
        )
    if "train" in images:
        rows.append(f"| `train` | {sizes['train']:,.0f} | built |")
    return [f"The base has {base_mb:.0f} MB.", "", "| image | adds, MB | seen |", "|---|---|---|", *rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check, measure, write the page, clean up."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    rest = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__.splitlines()[0])
    bases = parser.add_mutually_exclusive_group(required=True)
    bases.add_argument("--base", help="an image with Python 3.11 or newer")
    bases.add_argument("--debian", metavar="RELEASE", help="make bases of this release by mmdebstrap")
    parser.add_argument("--build-base", help="the same with venv and pip; default: --base")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=["cpu", "gpu", "reference"])
    parser.add_argument("--storage", type=Path, help="the folder to use, which must not be there; default: a new one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the page to write")
    options = parser.parse_args(words[:rest])
    folder = options.storage or Path(tempfile.mkdtemp(prefix="nextvalue-images-"))
    folder.mkdir(parents=True, exist_ok=options.storage is None)
    folder.chmod(0o755)
    storage = Storage(folder, tuple(words[rest + 1 :]))
    try:
        models = folder / "models"
        subprocess.run([sys.executable, "-m", "tests.artifacts", str(models)], check=True)
        if options.debian:
            say("make bases")
            base = storage.debian(options.debian, "python3,ca-certificates", "base")
            build_base = storage.debian(options.debian, "python3,python3-venv,ca-certificates", "build-base")
            what = f"Debian {options.debian} by mmdebstrap (minbase and python3)"
        else:
            base, build_base = options.base, options.build_base or options.base
            what = base
        table = measure(storage, options.targets, base, build_base, models)
    except (checks.CheckError, ToolError, subprocess.CalledProcessError) as error:
        say(f"images: {error}")
        return 1
    finally:
        storage.remove()
    lines = [
        "# Images",
        "",
        f"{describe_machine('grpcio')} (on the machine; the images have their base's Python).",
        "",
        f"On {what}, by buildah without a daemon and podman with runc.",
        "Run with a read-only root, all capabilities dropped, no new privileges, and as a user without a name (65532),",
        "all of it looked at from inside. Ready: from `podman start` to the first SERVING, five small models.",
        "`make images-check`",
        "",
        *table,
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
