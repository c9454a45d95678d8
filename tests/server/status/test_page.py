"""The whole document."""

import re
from html.parser import HTMLParser

import pytest

from server.status.board import StatusBoard
from server.status.facts import Facts, ModelFacts, VersionFacts, WorkerFacts
from tests.server.status.samples import Counted

RUDE = '</td><script>alert("x")</script>'
FACTS = Facts(
    models=[
        ModelFacts(
            name="m",
            default=1,
            versions=[
                VersionFacts(number=2, state="failed", reason=RUDE),
                VersionFacts(
                    number=1, state="serving", labels=["stable", RUDE], cell="gru", provider="CPUExecutionProvider",
                    nodes={"CPUExecutionProvider": 201},
                ),
            ],
        ),
        ModelFacts(name=RUDE),
    ],
    num_left_out=3,
)  # fmt: skip
# They have no end tag.
VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Whether what is opened is closed, and the text by element."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.texts: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def board(counted: Counted, facts: Facts = FACTS, **options: object) -> StatusBoard:
    return StatusBoard(
        counted.registry.collect,
        facts=lambda: facts,
        is_ready=lambda: bool(facts.models),
        clock=counted.clock,
        **options,  # type: ignore[arg-type]
    )


def said(shown: StatusBoard) -> str:
    return " ".join(" ".join(Outline(shown.render()).texts).split())


def test_it_is_whole_and_loads_nothing(counted: Counted) -> None:
    page = board(counted).render()
    outline = Outline(page)
    assert outline.open == []
    assert "script" not in outline.seen
    assert outline.texts.count(RUDE) == 2, "the reason and the label"
    assert page.count("<h1") == 1
    assert not re.search(r"(src|url\(|@import|https?:)", page)
    assert 'lang="en"' in page
    assert 'http-equiv="refresh" content="5"' in page
    assert 'http-equiv="refresh"' not in board(counted).render(refresh=False)


def test_what_is_on_it(counted: Counted) -> None:
    shown = board(counted)
    shown.render()
    counted.calls(98, 0.0011)
    counted.calls(1, 0.0011, code="INTERNAL")
    counted.calls(1, 4.0, code="RESOURCE_EXHAUSTED")
    counted.metrics.rejected.labels("m", "queue_full").inc()
    counted.metrics.predictions.labels("m", "1").inc(400)
    counted.metrics.parity_checks.labels("m", "1", "match").inc(8)
    counted.metrics.parity_checks.labels("m", "1", "mismatch").inc(2)
    counted.metrics.parity_abs_error.labels("m", "1").observe(3e-6)
    counted.metrics.for_model("m", 1).queue_windows.set_function(lambda: 6.0)
    counted.now += 10
    text = said(shown)
    for part in (
        "ready up 10 s", "2 models, 1 versions served", "Calls 10 /s last 10 s", "Predictions 40 /s",
        "Half of calls within 1.", "Own errors 1 % 1 calls", "Refused 1 % 1 calls", "Windows waiting 6 now",
        "Parity 2 off of 10 since the start", "3 further versions are not listed", "failed",
        "serving default stable", "gru CPU 201 CPU 10 2 ≤ 1e-05", "INTERNAL 1", "refused: queue_full 1",
        "parity: mismatch 2", "Python 3.", "onnxruntime 1.",
    ):  # fmt: skip
        assert part in text


def test_a_server_that_has_done_nothing(counted: Counted) -> None:
    """No panel is empty: it says that there is nothing."""
    text = said(board(counted, Facts()))
    for part in ("not ready", "None found yet.", "No call yet.", "no checks", "Own errors –"):
        assert part in text


def test_several_workers(counted: Counted) -> None:
    workers = [WorkerFacts(worker=1, pid=77, uptime_seconds=65), WorkerFacts(worker=2, pid=78)]
    text = said(board(counted, workers=lambda: workers))
    assert "1 77 1 min 5 s 2 78 starting" in text
