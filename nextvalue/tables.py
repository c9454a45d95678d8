"""What the command prints: columns that line up, and numbers as short as they can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nextvalue.arrays import Float32Array
from nextvalue.results import Model, Prediction

MODEL_COLUMNS = (
    "NAME", "VERSION", "LABELS", "STATE", "CELL", "WINDOW", "FEATURES", "TRANSFORM", "HORIZON", "CALENDAR", "SCALING",
    "LEVELS", "PROVIDER", "REASON",
)  # fmt: skip


def model_rows(model: Model) -> list[tuple[str, ...]]:
    """A table row for each version; what is not known, and what the model does not have, is a dash."""
    rows = []
    for version in model.versions:
        about = version.description
        known: tuple[str, ...] = ("",) * (len(MODEL_COLUMNS) - 5)
        if about is not None:
            known = (
                about.cell,
                str(about.window or ""),
                ",".join(about.features),
                about.transform,
                str(about.direct_horizon or ""),
                ",".join(about.calendar),
                about.scaling,
                ",".join(map(str, about.levels)),
                about.provider,
            )
        named = (model.name, str(version.version), ",".join(version.labels), str(version.state))
        cells = (*named, *known, " ".join(version.reason.split()))
        rows.append(tuple(cell or "-" for cell in cells))
    return rows


def interval_rows(prediction: Prediction) -> list[tuple[str, ...]]:
    """A header, and a row for each value ahead of each window: the prediction and the ends of its intervals."""
    assert prediction.lower is not None
    assert prediction.upper is not None
    ends = [f"{end} {level}" for level in prediction.levels or () for end in ("LOWER", "UPPER")]
    rows: list[tuple[str, ...]] = [("WINDOW", "AHEAD", "PREDICTION", *ends)]
    for window, values in enumerate(prediction.values):
        for ahead, value in enumerate(values):
            pairs = zip(prediction.lower[window, ahead], prediction.upper[window, ahead], strict=True)
            rows.append((str(window + 1), str(ahead + 1), str(value), *(str(end) for pair in pairs for end in pair)))
    return rows


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns that line up, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def nested(array: Float32Array) -> list[Any]:
    """An array for JSON, each number as a float32 prints it: 50.1, not 50.099998474121094. What is none is None."""
    return [nested(row) if array.ndim > 1 else float(str(row)) if np.isfinite(row) else None for row in array]
