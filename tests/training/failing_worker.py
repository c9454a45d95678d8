"""`python -m training`, except that the second worker cannot take its fifth step."""

import os
import sys

from training.__main__ import main
from training.errors import FitError
from training.fit import Fit

step = Fit._step


def failing(fit: Fit, chosen: object) -> None:
    """As the fit's own, until it fails."""
    if os.environ.get("RANK") == "1" and fit.position == 4:
        raise FitError("the second worker has had enough")
    step(fit, chosen)  # type: ignore[arg-type]


if __name__ == "__main__":
    Fit._step = failing  # type: ignore[method-assign,assignment]
    sys.exit(main())
