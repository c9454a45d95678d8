"""How far a served output may be from the float64 reference: the one table of tolerances.

| dtype   | limit                                | reason                                                              |
|---------|--------------------------------------|---------------------------------------------------------------------|
| float32 | 1e-5 · scale + 2 ulp32(reference)    | a cell works in units of `scale`, where a few hundred rounded steps |
|         |                                      | stay under 1e-5; turning back to raw units rounds twice more        |
| float32 | 1e-5 · (scale + reach) + 2 ulp32     | the ends of an interval: how far one reaches from the prediction is |
|         |                                      | a product, whose rounding grows with it and not with `scale`        |
| float32 | k times the first, of the k-th value | of values that were read again: each may be off by its limit, and   |
|         | of a rollout                         | what follows carries all that went before                           |
| float16 | 5e-3 · (the same) + 2 ulp32          | a cell's numbers are within 1 and rounded to 2.4e-4 of it at every  |
|         |                                      | operation; a contracting recurrence gathers some of them. Measured, |
|         |                                      | rounding after each: 2.0e-3 at most in models fitted to sunspots    |
|         |                                      | and CO2 (H 50, T 48), 2.5e-3 in random ones (RNN, H 50, T 48)       |
"""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

RELATIVE_TO_SCALE = 1e-5
ULPS = 2.0


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The two numbers of the limit, as an artifact's manifest carries them."""

    # Bounded, so that no manifest can widen its own gate into an open door.
    relative_to_scale: Annotated[float, msgspec.Meta(ge=0, le=1e-2)] = RELATIVE_TO_SCALE
    ulps: Annotated[float, msgspec.Meta(ge=0, le=16)] = ULPS


# The row of graphs that compute in float16. No artifact carries its own.
HALF = Tolerance(relative_to_scale=5e-3)

# One unit for all of an output, one for each row, [B, 1], or one for each number of it.
Scale = float | NDArray[np.float64]


def limit(reference: NDArray[np.float64], scale: Scale, tolerance: Tolerance) -> NDArray[np.float64]:
    """The largest allowed |served - reference|, elementwise, in the reference's units."""
    with np.errstate(over="ignore"):
        ulp = np.spacing(np.abs(reference).astype(np.float32)).astype(np.float64)
    if not isinstance(scale, float) and scale.shape != reference.shape:
        scale = scale.reshape(len(reference), *[1] * (reference.ndim - 1))
    return tolerance.relative_to_scale * scale + tolerance.ulps * ulp


class Deviation(msgspec.Struct, frozen=True):
    """How far outputs were from the reference: the worst |Δ|, and the worst |Δ| as a share of its limit."""

    abs_error: float = 0.0
    share_of_limit: float = 0.0

    @property
    def within(self) -> bool:
        """Whether every element kept its limit."""
        return self.share_of_limit <= 1.0

    def worst(self, other: "Deviation") -> "Deviation":
        """The worse of the two, figure by figure."""
        return Deviation(max(self.abs_error, other.abs_error), max(self.share_of_limit, other.share_of_limit))


def deviation(
    served: NDArray[np.floating],
    reference: NDArray[np.float64],
    scale: Scale,
    tolerance: Tolerance,
    *,
    fed_back: bool = False,
) -> Deviation:
    """Compare two arrays. NaN, infinity and a reference beyond float32 are infinitely far.

    `fed_back`: each value [B, R] was read again for the next.

    Raises ValueError if the shapes differ.
    """
    if served.shape != reference.shape:
        raise ValueError(f"served output has shape {list(served.shape)}; the reference has {list(reference.shape)}")
    if served.size == 0:
        return Deviation()
    with np.errstate(over="ignore"):
        finite = np.isfinite(served).all() and np.isfinite(reference.astype(np.float32)).all()
    if not finite:
        return Deviation(float("inf"), float("inf"))
    error = np.abs(served.astype(np.float64) - reference)
    allowed = limit(reference, scale, tolerance)
    if fed_back:
        allowed *= np.arange(1, reference.shape[1] + 1)
    return Deviation(float(error.max()), float((error / allowed).max()))
