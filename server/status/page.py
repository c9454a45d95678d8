"""The status page as one HTML document: no script, nothing loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

from server.status import numbers
from server.status.counts import FAULTS, PREDICTING, Counts, highest, quantile
from server.status.facts import Facts, ModelFacts, VersionFacts, WorkerFacts
from server.status.history import Period
from server.status.markup import Column, Markup, joined, section, table, tag
from server.status.style import STYLE

REFRESH_SECONDS = 5
MATCH, MISMATCH, DROPPED = "match", "mismatch", "dropped"


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything on the page. `periods` are those of the history, the shortest first."""

    is_ready: bool
    uptime_seconds: float
    facts: Facts
    latest: Counts
    periods: Sequence[Period]
    software: Mapping[str, str]
    workers: Sequence[WorkerFacts] = ()


def document(status: Status, *, refresh: bool = True) -> str:
    """The whole page."""
    ready = "ready" if status.is_ready else "not ready"
    head = joined(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup(f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">') if refresh else "",
            Markup('<link rel="icon" href="data:,">'),
            tag("title", f"Nextvalue: {ready}"),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    serving = sum(version.state == "serving" for model in status.facts.models for version in model.versions)
    top = tag(
        "header",
        tag("a", "to the models", href="#models", class_="skip"),
        tag("h1", "Nextvalue"),
        tag("p", tag("strong", ready, class_="ready" if status.is_ready else "bad")),
        tag("p", f"up {numbers.age(status.uptime_seconds)}"),
        tag("p", f"{len(status.facts.models)} models, {serving} versions served"),
        tag("p", _refreshing(refresh=refresh)),
    )
    main = tag("main", _cards(status), _models(status), _calls(status), _below(status))
    bottom = tag("footer", "For Prometheus: ", tag("a", "/metrics", href="/metrics"))
    body = tag("body", top, main, bottom)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def _refreshing(*, refresh: bool) -> Markup:
    if refresh:
        again = tag("a", "stop that", href="/?refresh=off")
        return joined([f"looks again every {REFRESH_SECONDS} s (", again, ")"])
    return joined(["stands still (", tag("a", "look again by itself", href="/"), ")"])


# ---- what happens ----


def _cards(status: Status) -> Markup:
    period, latest = status.periods[0], status.latest
    counted, seconds = period.counted, period.seconds
    name = period.name
    buckets = counted.buckets()
    faults, refused = counted.calls(codes=FAULTS), sum(counted.rejected.values())
    checks, mismatches = _checks(latest)
    cards = [
        ("Calls", f"{numbers.rate(counted.calls(), seconds)} /s", name, False),
        ("Predictions", f"{numbers.rate(sum(counted.predictions.values()), seconds)} /s", name, False),
        ("Half of calls within", numbers.duration(quantile(0.5, buckets)), f"p50, {name}", False),
        ("99 of 100 within", numbers.duration(quantile(0.99, buckets)), f"p99, {name}", False),
        ("Own errors", numbers.share(faults, counted.calls()), f"{faults:,} calls, {name}", faults > 0),
        ("Refused", numbers.share(refused, counted.calls()), f"{refused:,} calls, {name}", refused > 0),
        ("Windows waiting", f"{sum(latest.queue.values()):,}", "now", False),
        ("Parity", f"{mismatches:,} off" if mismatches else "all match" if checks else "no checks",
         f"of {checks:,} since the start", mismatches > 0),
    ]  # fmt: skip
    return tag("ul", *starmap(_card, cards), class_="cards")


def _card(title: str, value: str, below: str, is_bad: bool) -> Markup:
    return tag("li", tag("h2", title), tag("strong", value, class_="bad" if is_bad else ""), tag("span", below))


def _checks(counts: Counts, model: str | None = None, version: str = "") -> tuple[int, int]:
    """Made, and those that did not match; of a version or of all."""
    made = _results(counts, model, version)
    return made[MATCH] + made[MISMATCH], made[MISMATCH]


def _results(counts: Counts, model: str | None = None, version: str = "") -> dict[str, int]:
    found = dict.fromkeys((MATCH, MISMATCH, DROPPED), 0)
    for (of, number, result), count in counts.parity.items():
        if model is None or (of, number) == (model, version):
            found[result] = found.get(result, 0) + count
    return found


# ---- what serves ----

_MODEL_COLUMNS = (
    Column("model"), Column("version"), Column("state"), Column("labels"), Column("cell"), Column("provider"),
    Column("nodes", is_number=True), Column("parity checks", is_number=True), Column("mismatches", is_number=True),
    Column("worst error", is_number=True),
)  # fmt: skip


def _models(status: Status) -> Markup:
    facts = status.facts
    rows = [_version_row(model, version, status.latest) for model in facts.models for version in model.versions]
    if not rows:
        return section("Models", tag("p", "None found yet.", class_="none"))
    left_out = f"{facts.num_left_out} further versions are not listed." if facts.num_left_out else ""
    return section("Models", table(left_out, _MODEL_COLUMNS, rows))


def _version_row(model: ModelFacts, version: VersionFacts, latest: Counts) -> list[object]:
    number = str(version.number)
    checks, mismatches = _checks(latest, model.name, number)
    worst = highest(latest.parity_error.get((model.name, number), {}))
    labels = list(dict.fromkeys([*(["default"] if version.number == model.default else []), *version.labels]))
    state: list[object] = [tag("span", version.state, class_=version.state)]
    if version.reason:
        state.append(tag("span", version.reason, class_="reason"))
    return [
        model.name,
        number,
        tag("div", *state),
        tag("div", joined((tag("span", label, class_="label") for label in labels), " ")) if labels else numbers.NONE,
        version.cell or numbers.NONE,
        version.provider.removesuffix("ExecutionProvider") or numbers.NONE,
        _nodes(version.nodes),
        f"{checks:,}",
        tag("span", f"{mismatches:,}", class_="bad" if mismatches else ""),
        f"≤ {worst:.0e}" if worst is not None else numbers.NONE,
    ]


def _nodes(nodes: Mapping[str, int]) -> str:
    parts = [f"{count} {provider.removesuffix('ExecutionProvider')}" for provider, count in sorted(nodes.items())]
    return ", ".join(parts) or numbers.NONE


# ---- who calls ----

_CALL_COLUMNS = (
    Column("model"), Column("calls /s", is_number=True), Column("predictions /s", is_number=True),
    Column("p50", is_number=True), Column("p99", is_number=True), Column("own errors", is_number=True),
    Column("refused", is_number=True), Column("waiting", is_number=True),
)  # fmt: skip


def _calls(status: Status) -> Markup:
    """By model, over the longest period that is not the server's whole life."""
    period = status.periods[-2] if len(status.periods) > 1 else status.periods[0]
    counted, seconds = period.counted, period.seconds
    names = sorted({model for model, _ in status.latest.codes} | set(status.latest.queue))
    rows = []
    for name in names:
        buckets = counted.buckets(name)
        faults = counted.calls(name, FAULTS)
        refused = sum(count for (model, _), count in counted.rejected.items() if model == name)
        rows.append(
            [
                _called(name),
                numbers.rate(counted.calls(name), seconds),
                numbers.rate(counted.predictions[name], seconds),
                numbers.duration(quantile(0.5, buckets)),
                numbers.duration(quantile(0.99, buckets)),
                tag("span", f"{faults:,}", class_="bad" if faults else ""),
                f"{refused:,}",
                f"{status.latest.queue[name]:,}",
            ]
        )
    if not rows:
        return section("Calls by model", tag("p", "No call yet.", class_="none"))
    return section("Calls by model", table(period.name, _CALL_COLUMNS, rows))


def _called(name: str) -> str:
    return {"": "(no model)", "_unknown": "(unknown model)"}.get(name, name)


def _below(status: Status) -> Markup:
    parts = [_rates(status), _codes(status)]
    if status.workers:
        parts.append(_workers(status.workers))
    parts.append(_software(status.software))
    return tag("div", *parts, class_="pair")


def _rates(status: Status) -> Markup:
    def values(period: Period) -> list[str]:
        counted, seconds = period.counted, period.seconds
        buckets = counted.buckets()
        return [
            numbers.rate(counted.calls(), seconds),
            numbers.rate(sum(counted.predictions.values()), seconds),
            numbers.share(counted.calls(codes=FAULTS), counted.calls()),
            numbers.share(sum(counted.rejected.values()), counted.calls()),
            numbers.duration(quantile(0.5, buckets)),
            numbers.duration(quantile(0.99, buckets)),
        ]

    names = ("calls /s", "predictions /s", "own errors", "refused", "p50", "p99")
    columns = [Column(""), *(Column(period.name, is_number=True) for period in status.periods)]
    rows = zip(names, *(values(period) for period in status.periods), strict=True)
    return section("Rates", table(f"Times are of {', '.join(PREDICTING)}.", columns, list(rows)))


def _codes(status: Status) -> Markup:
    codes: dict[str, int] = {}
    for (_, code), count in status.latest.codes.items():
        codes[code] = codes.get(code, 0) + count
    rows: list[list[object]] = [[code, f"{count:,}"] for code, count in sorted(codes.items())]
    parity = _results(status.latest)
    rows += [[f"refused: {reason}", f"{count:,}"] for reason, count in sorted(_reasons(status.latest).items()) if count]
    rows += [[f"parity: {result}", f"{count:,}"] for result, count in parity.items()]
    return section("Since the start", table("", [Column("calls by status"), Column("number", is_number=True)], rows))


def _reasons(counts: Counts) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for (_, reason), count in counts.rejected.items():
        reasons[reason] = reasons.get(reason, 0) + count
    return reasons


def _workers(workers: Sequence[WorkerFacts]) -> Markup:
    rows = [
        [str(each.worker), str(each.pid), numbers.age(each.uptime_seconds) if each.uptime_seconds is not None else
         tag("span", "starting", class_="loading")]
        for each in workers
    ]  # fmt: skip
    return section("Workers", table("", [Column("worker"), Column("process"), Column("serves for")], rows))


def _software(software: Mapping[str, str]) -> Markup:
    rows = [[name, version] for name, version in software.items()]
    return section("Software", table("", [Column("name"), Column("version")], rows))
