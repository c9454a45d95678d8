"""Chromium without a window, with a profile of its own that is gone afterwards."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip
LIMIT_SECONDS = 120

# Looks at the page within a frame, whose width is the page's: a window of Chromium's is never as narrow as a phone.
_LOOK = """
const page = document.getElementById("page").contentDocument;
const seen = (each) => { const box = each.getBoundingClientRect(); return {
  kind: each.tagName.toLowerCase() + (each.className ? "." + each.className : ""), text: each.innerText.trim(),
  left: box.left, top: box.top, right: box.right, bottom: box.bottom,
  spills: each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline" }; };
const all = (selector) => [...page.querySelectorAll(selector)].map(seen).filter((each) => each.bottom > each.top);
document.body.textContent = JSON.stringify({
  panels: all(".cards li, section"), headings: all("h1, h2"), tables: all("table"), rows: all("tbody tr"),
  cells: all("tbody th, tbody td, caption"), cards: all(".cards h2, .cards strong, .cards span"),
  scripts: page.scripts.length, wide: page.documentElement.scrollWidth, width: page.documentElement.clientWidth,
  paper: getComputedStyle(page.body).backgroundColor });
"""


def program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _run(*arguments: str) -> str:
    found = program()
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [found, *FLAGS, f"--user-data-dir={profile}", *arguments],
            capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def looked_at(page: str, *, width: int, folder: Path, dark: bool = False) -> dict[str, Any]:
    """Where a page's parts are at so many pixels."""
    file = folder / f"look-{width}.html"
    frame = f'<iframe id="page" style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}"></iframe>'
    script = f"addEventListener('load', () => {{ {_LOOK} }})"
    file.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frame}<script>{script}</script></body>')
    dom = _run(*(["--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom", file.as_uri())
    found = re.search(r"<body>(.*)</body>", dom, re.DOTALL)
    assert found, dom
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer


def picture(url: str, path: Path, *, width: int, height: int) -> None:
    """What a person sees, as a PNG."""
    _run(f"--window-size={width},{height}", f"--screenshot={path.resolve()}", url)
