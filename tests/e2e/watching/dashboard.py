"""The Grafana dashboard's panels, and what a real Prometheus answers to their queries."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.prometheus import Prometheus

FILE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "components" / "monitoring" / "dashboard.json"
# Of Grafana's grid.
COLUMNS = 24
# What is gone is seen to be gone within the minute that is shown.
LOOKBACK = "10s"
# What its variables stand for with everything chosen. Grafana's rate interval is at least four scrapes.
VARIABLES = {"$namespace": ".*", "$model": ".*", "$__rate_interval": "8s"}


@dataclass(frozen=True)
class Target:
    """One query of a panel; `legend` has {{label}} in it."""

    query: str
    legend: str

    def name_of(self, labels: dict[str, str]) -> str:
        """What a series is called."""
        name = self.legend
        for label, value in labels.items():
            name = name.replace("{{" + label + "}}", value)
        return name


@dataclass(frozen=True)
class Panel:
    """A panel and its place on the grid, whose y grows downwards."""

    title: str
    kind: str
    unit: str
    is_stacked: bool
    x: int
    y: int
    width: int
    height: int
    targets: tuple[Target, ...]


def panels() -> list[Panel]:
    """As they are in the file."""
    return [_panel(each) for each in json.loads(FILE.read_text())["panels"]]


def _panel(each: dict[str, Any]) -> Panel:
    defaults, place = each["fieldConfig"]["defaults"], each["gridPos"]
    stacking = defaults.get("custom", {}).get("stacking", {}).get("mode", "none")
    targets = tuple(Target(_filled(target["expr"]), target["legendFormat"]) for target in each["targets"])
    return Panel(
        each["title"], each["type"], defaults["unit"], stacking == "normal",
        place["x"], place["y"], place["w"], place["h"], targets,
    )  # fmt: skip


def _filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, f"a variable that nobody fills: {query}"
    return query


@dataclass(frozen=True)
class Line:
    """A series: its name, and (time, value) where it has numbers."""

    name: str
    points: list[tuple[float, float]]


def lines_of(panel: Panel, prometheus: Prometheus, *, seconds: float, now: float) -> list[Line]:
    """Everything that the panel shows of the last seconds."""
    lines = []
    for target in panel.targets:
        for series in prometheus.range(target.query, seconds=seconds, now=now):
            points = [(float(at), float(value)) for at, value in series["values"]]
            numbers = [(at, value) for at, value in points if math.isfinite(value)]
            if numbers:
                lines.append(Line(target.name_of(series["metric"]), numbers))
    return lines
