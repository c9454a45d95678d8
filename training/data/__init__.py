"""From a file or a built-in example to the windows a model is fitted and judged on.

    source ──load──> Dataset (Series end to end) ──split_windows──> fit, validation and test windows

A file passes these stations: the table (which columns, read in blocks), the grouping (which rows are one series),
and for each series the cleaning: its timeline (which rows are missing) and its gaps (what to do about them). Rows
too many for memory lie in a temporary file; everything behind `Rows` is the same for them.

Shapes: L rows of a series, F features (feature 0 is the target), M windows, T rows in a window.
"""

from training.data.load import DataOptions, load
from training.data.order import epoch_order
from training.data.parts import all_windows, coverage_lines, split_windows
from training.data.provenance import Provenance, SeriesReport, gap_lines
from training.data.series import Dataset, Series
from training.data.split import SplitOptions
from training.data.windows import Parts, WindowBatch, WindowSet

__all__ = [
    "DataOptions",
    "Dataset",
    "Parts",
    "Provenance",
    "Series",
    "SeriesReport",
    "SplitOptions",
    "WindowBatch",
    "WindowSet",
    "all_windows",
    "coverage_lines",
    "epoch_order",
    "gap_lines",
    "load",
    "split_windows",
]
