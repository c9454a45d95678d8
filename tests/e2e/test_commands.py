"""What the README and the pages for newcomers say to type works as it stands."""

import re
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.doors.access import Access
from tests.e2e.commands import PAGES, ROOT, Follower, all_blocks, blocks

pytestmark = pytest.mark.e2e

FOUND = all_blocks()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages ask with curl, which is not installed")
@pytest.mark.parametrize("page", [page for page in PAGES if any((b.page, b.kind) == (page, "here") for b in FOUND)])
def test_a_page_is_followed_to_its_end(page: str, tmp_path: Path) -> None:
    followed = [each for each in FOUND if (each.page, each.kind) == (page, "here")]
    with ExitStack() as stack:
        follower = Follower(tmp_path, stack)
        printed = "".join(map(follower.follow, followed))
    serves = any("/metrics" in each.text for each in followed)
    assert serves == (page in {"README.md", "docs/newcomer.md"})
    assert (re.search(r"^nextvalue_requests_total\{", printed, re.MULTILINE) is not None) == serves
    assert "Traceback" not in printed
    if page == "docs/deploying.md":
        # What it made lets in who has the token that it made.
        access = Access.parse((tmp_path / "access.json").read_bytes())
        assert access.by_token((tmp_path / "token").read_text(), now=0.0).allows("demo")


def test_what_make_is_told_to_do_exists() -> None:
    targets = sorted({target for each in FOUND if each.kind == "make" for target in each.targets})
    assert {"demo", "test", "venv", "deploy-check"} <= set(targets)
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_needs_a_cluster_says_so() -> None:
    """And nothing else does."""
    for each in FOUND:
        asks = re.search(r"\b(kubectl|buildah|podman)\b", each.text) is not None
        assert asks == (each.kind == "cluster"), each.place
    assert {each.page for each in FOUND if each.kind == "cluster"} == {"docs/deploying.md", "docs/newcomer.md"}


def test_blocks() -> None:
    text = "# A\n\n```sh\nls\n```\n\n```python\nx\n```\n"
    text += "```sh\nmake test      # all\nmake demo\n```\n```sh cluster\nkubectl\n```\n"
    assert [(each.line, each.kind, each.text) for each in blocks("a.md", text)] == [
        (3, "here", "ls\n"),
        (10, "make", "make test      # all\nmake demo\n"),
        (14, "cluster", "kubectl\n"),
    ]
    assert blocks("a.md", text)[1].targets == ["test", "demo"]
    with pytest.raises(ValueError, match="neither `sh` nor `sh cluster`"):
        blocks("a.md", text.replace("```sh cluster", "```shell"))
