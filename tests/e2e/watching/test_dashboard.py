"""Every query of the dashboard, asked of a real Prometheus that scrapes the real server under traffic."""

import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from tests.e2e.prometheus import Prometheus, needs_prometheus, prometheus
from tests.e2e.watching.dashboard import COLUMNS, LOOKBACK, Line, Panel, lines_of, panels
from tests.e2e.watching.traffic import repository, under_traffic
from tests.server.harness import eventually_sync

pytestmark = pytest.mark.e2e
PANELS = panels()
SECONDS = 60.0


@pytest.fixture(scope="module")
def asked(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen calls, refusals and checks for a while."""
    folder = tmp_path_factory.mktemp("dashboard")
    copy = repository(models, folder / "models")
    with (
        under_traffic(copy) as (process, _),
        prometheus([process.metrics_port], folder, lookback=LOOKBACK) as found,
    ):
        refused = 'rate(nextvalue_rejected_total{reason="queue_full"}[8s]) > 0'
        seen = f"{refused} and on() rate(nextvalue_parity_checks_total[8s]) > 0"
        eventually_sync(lambda: found.ask("query", query=seen)["result"], "refusals and checks in Prometheus")
        yield found


@needs_prometheus
@pytest.mark.live
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_shows_something(asked: Prometheus, panel: Panel) -> None:
    found: list[Line] = []

    def look() -> bool:
        found[:] = lines_of(panel, asked, seconds=SECONDS, now=time.time())
        return bool(found)

    eventually_sync(look, f"numbers for {panel.title}")
    names = [line.name for line in found]
    assert len(set(names)) == len(names), "two series of one name"
    assert all(name and "{{" not in name for name in names)
    if panel.title not in {"Windows waiting", "Refused"}:
        assert any(value > 0 for line in found for _, value in line.points)


@needs_prometheus
@pytest.mark.live
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_each_query_has_an_answer(asked: Prometheus, panel: Panel) -> None:
    """Also of a panel that has several."""
    for target in panel.targets:
        assert asked.range(target.query, seconds=SECONDS, now=time.time()), target.query


def test_panels_do_not_overlap() -> None:
    def cells(panel: Panel) -> set[tuple[int, int]]:
        wide, high = range(panel.x, panel.x + panel.width), range(panel.y, panel.y + panel.height)
        return {(x, y) for x in wide for y in high}

    for one, other in combinations(PANELS, 2):
        assert not cells(one) & cells(other), f"{one.title} lies over {other.title}"
    taken = set().union(*map(cells, PANELS))
    assert all(0 <= x < COLUMNS for x, _ in taken)
    assert len(taken) == COLUMNS * (1 + max(y for _, y in taken)), "no hole"


def test_panels_say_what_they_show() -> None:
    assert all(panel.title and panel.unit and panel.targets for panel in PANELS)
    assert all(target.legend for panel in PANELS for target in panel.targets)
    assert len({panel.title for panel in PANELS}) == len(PANELS)
