"""The status page as a browser lays it out, under the demo's kind of traffic."""

import urllib.request
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.watching import chromium
from tests.e2e.watching.traffic import RUDE, repository, under_traffic
from tests.server.harness import LIMIT_SECONDS, eventually_sync

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.live,
    pytest.mark.skipif(chromium.program() is None, reason="chromium is not installed (package chromium)"),
]

WIDTHS = (1280, 390)
Box = dict[str, Any]


@pytest.fixture(scope="module", params=[(), ("--workers", "2")], ids=["one process", "two workers"])
def page(models: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """Everything on it has been seen at least once."""
    copy = repository(models, tmp_path_factory.mktemp("page") / "models")
    with under_traffic(copy, *request.param) as (process, traffic):

        def read() -> str:
            url = f"http://127.0.0.1:{process.metrics_port}/?refresh=off"
            with urllib.request.urlopen(url, timeout=LIMIT_SECONDS) as reply:
                text: str = reply.read().decode()
            return text

        def is_full() -> bool:
            text = read()
            seen = [part for part in (">last ", "all match", "queue_full") if part in text]
            return len(seen) == 3 and traffic.num_rounds > 20

        eventually_sync(is_full, "calls, refusals and parity checks on the page")
        return read()


@pytest.fixture(scope="module", params=WIDTHS)
def looked(page: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    return chromium.looked_at(page, width=request.param, folder=tmp_path_factory.mktemp("looked"))


def overlap(one: Box, other: Box) -> bool:
    wide = min(one["right"], other["right"]) - max(one["left"], other["left"])
    high = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return bool(wide > 0.5 and high > 0.5)


def test_nothing_overlaps(looked: dict[str, Any]) -> None:
    for kind in ("panels", "headings", "tables", "cells", "cards"):
        boxes = looked[kind]
        assert len(boxes) >= 5
        assert [(one["text"], other["text"]) for one, other in combinations(boxes, 2) if overlap(one, other)] == []


def test_no_panel_is_empty(looked: dict[str, Any]) -> None:
    assert len(looked["panels"]) >= 8 + 5
    for panel in looked["panels"]:
        heading, *others = panel["text"].splitlines()
        assert heading
        assert any(character.isdigit() for line in others for character in line) or "all match" in others, panel
        assert panel["bottom"] - panel["top"] > 40
    assert len(looked["rows"]) > 20
    assert all(each["text"] for each in looked["cards"] + looked["headings"])
    assert not [card["text"] for card in looked["cards"] if card["text"] == "–"]


def test_nothing_is_wider_than_its_place(looked: dict[str, Any]) -> None:
    """No scrolling to the side, at a desk and on a phone."""
    assert looked["wide"] == looked["width"]
    assert looked["width"] in WIDTHS
    for kind in ("panels", "tables", "cells", "cards"):
        assert [box["text"] for box in looked[kind] if box["spills"]] == []
        assert all(box["left"] >= 0 and box["right"] <= looked["width"] for box in looked[kind])


def test_outside_data_is_text(page: str, looked: dict[str, Any]) -> None:
    assert RUDE not in page
    assert any(RUDE in cell["text"] for cell in looked["cells"])
    assert looked["scripts"] == 0


def test_light_and_dark(page: str, tmp_path: Path) -> None:
    papers = [chromium.looked_at(page, width=390, folder=tmp_path, dark=dark)["paper"] for dark in (False, True)]
    assert papers == ["rgb(246, 248, 250)", "rgb(13, 17, 23)"]
