"""From a figure to the bytes of a file."""

from io import BytesIO

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The figure as PNG, 100 dots an inch."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
