"""Numbers as a person reads them."""

import math

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
NONE = "–"


def rate(count: float, seconds: float) -> str:
    """So many a second."""
    value = count / seconds
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.01 else "< 0.01"


def duration(seconds: float | None) -> str:
    """Of a call."""
    if seconds is None:
        return NONE
    if math.isinf(seconds):
        return "> 5 s"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.2g} µs"


def age(seconds: float) -> str:
    """How long something has been there: the two largest units."""
    parts: list[str] = []
    left = int(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (parts and size > 1):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def share(part: float, whole: float) -> str:
    """Per cent."""
    return f"{100 * part / whole:.3g} %" if whole else NONE
