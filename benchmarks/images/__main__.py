"""Build our images, run them as locked as in a cluster, and write down what they are.

    python -m benchmarks.images --debian bookworm
    python -m benchmarks.images --base docker.io/library/python:3.11-slim-bookworm --targets cpu

Needs buildah, podman and runc, as root; --debian also mmdebstrap, which then makes the bases. What `buildah bud` is to
get besides goes behind --: `-- --build-arg PIP_INDEX_URL=… --volume HOST:CONTAINER:ro`. Everything is put into a folder
of its own, which is removed in the end. Returns 1 if something does not hold.
"""

import argparse
import os
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


def measure(
    storage: Storage, targets: Sequence[str], base: str, build_base: str, models: Path
) -> tuple[str, list[str], bool]:
    """Build and check one after another: what the base has, the lines of the table, whether it was ready in time.

    Raises CheckError or ToolError.
    """
    images: dict[str, str] = {}
    base_mb = storage.image_bytes(base) / MB
    rows = []
    in_time = True
    for target in targets:
        say(f"build {target}")
        images[target] = storage.build(target, base, build_base)
        added_mb = storage.image_bytes(images[target]) / MB - base_mb
        say(f"check {target}")
        what = seen(storage, target, images, models)
        if target == "cpu":
            ready, in_time = started(storage, images["cpu"], models)
            what += f"; {ready}"
        rows.append(f"| `{target}` | {added_mb:,.0f} | {what} |")
        say(rows[-1])
        if target == "cpu":
            checks.expect(added_mb <= MAX_ADDED_MB, f"cpu adds {added_mb:.0f} MB")
    return f"The base has {base_mb:.0f} MB.", rows, in_time


def started(storage: Storage, image: str, models: Path) -> tuple[str, bool]:
    """How long several starts took, on a machine how busy, and whether that was in time."""
    seconds = checks.ready_seconds(storage, image, models)
    median = checks.median(seconds)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    text = (
        f"ready: median of {len(seconds)} starts {median:.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}; "
        f"limit {MAX_READY_SECONDS:g}), load {load:.1f} a core"
    )
    return text, median <= MAX_READY_SECONDS


def seen(storage: Storage, target: str, images: dict[str, str], models: Path) -> str:
    """What was seen of an image. Raises CheckError or ToolError."""
    if target == "cpu":
        checks.check_cpu(storage, images["cpu"], models)
        return "healthy by its own command; answers; SIGTERM: 0"
    if target == "gpu":
        return f"without a GPU: status 1, and only `{checks.check_gpu(storage, images['gpu'], models)}`"
    if target == "reference" and "cpu" in images:
        found = checks.check_reference(storage, images, models, storage.folder / "socket")
        return f"beside `cpu`, a unix socket between them: {found} run(s) checked, no mismatch"
    return "built"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check, measure, write the page, clean up."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    rest = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.images", description=__doc__.splitlines()[0])
    bases = parser.add_mutually_exclusive_group(required=True)
    bases.add_argument("--base", help="an image with Python 3.11 or newer")
    bases.add_argument("--debian", metavar="RELEASE", help="make bases of this release by mmdebstrap")
    parser.add_argument("--build-base", help="the same with venv and pip; default: --base")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=["cpu", "reference", "gpu"])
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
        size, rows, in_time = measure(storage, options.targets, base, build_base, models)
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
        size,
        "",
        "| image | adds, MB | seen |",
        "|---|---|---|",
        *rows,
    ]
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())
    return 0 if in_time else 1


if __name__ == "__main__":
    sys.exit(main())
