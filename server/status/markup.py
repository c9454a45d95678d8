"""HTML from outside data: whatever a model is called or a reason says stays text."""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Markup(str):
    """HTML already: everything else is escaped."""

    __slots__ = ()


class Column(NamedTuple):
    """Of a table. Numbers stand to the right."""

    name: str
    is_number: bool = False


def text(value: object) -> Markup:
    """Escaped; what cannot be seen, or turns the direction of writing, becomes a mark."""
    if isinstance(value, Markup):
        return value
    seen = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value))
    return Markup(html.escape(seen))


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """One after another."""
    return Markup(between.join(text(part) for part in parts))


def tag(name: str, *children: object, **attributes: str) -> Markup:
    """An element; `class_` is written class, and data_name data-name."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items() if value
    )
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Markup:
    """The first column names the row. On a phone each cell is shown beside its column's name."""
    head = [tag("th", column.name, scope="col", class_="number" if column.is_number else "") for column in columns]
    body = []
    for row in rows:
        first, *others = row
        cells = [tag("th", first, scope="row")]
        for column, value in zip(columns[1:], others, strict=True):
            cells.append(tag("td", value, data_name=column.name, class_="number" if column.is_number else ""))
        body.append(tag("tr", *cells))
    return tag(
        "table",
        tag("caption", caption) if caption else "",
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )


def section(title: str, *children: object) -> Markup:
    """A part of the page under its heading."""
    name = title.lower().replace(" ", "-")
    return tag("section", tag("h2", title, id=name), *children, aria_labelledby=name)
