"""From a file or a built-in example to the windows a model is fitted and judged on.

    source ──load──> Dataset (a list of Series) ──split_windows──> fit, validation and test windows

A file passes three stations on its way to a Series: the table (which columns), the timeline (which rows
are missing) and the gaps (what to do about them).

Shapes: L rows of a series, F features (feature 0 is the target), M windows, T rows in a window.
"""

from training.data.load import DataOptions, load
from training.data.series import Dataset, Provenance, Series
from training.data.split import SplitOptions
from training.data.windows import Parts, WindowSet, split_windows

__all__ = [
    "DataOptions",
    "Dataset",
    "Parts",
    "Provenance",
    "Series",
    "SplitOptions",
    "WindowSet",
    "load",
    "split_windows",
]
