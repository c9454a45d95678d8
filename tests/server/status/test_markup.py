"""Outside data stays text."""

import pytest

from server.status.markup import Column, Markup, section, table, tag, text

RUDE = '<b onclick="x()">&\''


def test_it_is_escaped_everywhere() -> None:
    escaped = "&lt;b onclick=&quot;x()&quot;&gt;&amp;&#x27;"
    assert text(RUDE) == escaped
    assert tag("p", RUDE, title=RUDE) == f'<p title="{escaped}">{escaped}</p>'
    made = table(RUDE, [Column(RUDE), Column(RUDE)], [[RUDE, RUDE]]) + section(RUDE, RUDE)
    assert "<b" not in made
    assert made.count(escaped) == 8


def test_what_is_markup_stays_so() -> None:
    assert tag("p", Markup("<br>"), tag("b", 1)) == "<p><br><b>1</b></p>"


@pytest.mark.parametrize("hidden", ["\x00", "\x1b[31m"[:1], "\u202e", "\u200b", "\ufeff", "\n"])
def test_what_cannot_be_seen_is_marked(hidden: str) -> None:
    assert text(f"a{hidden}b") == "a\ufffdb"


def test_attributes() -> None:
    assert tag("td", "x", class_="number", data_name="a b", title="") == '<td class="number" data-name="a b">x</td>'
