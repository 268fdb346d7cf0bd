"""Whether logits sit on a half-precision grid: then near neighbours are exact ties.

Source: docs/method.md, Numerics.
"""

from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float

from probing.vocabulary import PerPosition

LOW_BITS = np.uint32(0xFFFF)
"""The bits of a float32 that bfloat16 does not have."""


class Grid(StrEnum):
    """A format coarser than float32 that logits were rounded to before they were kept."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


FRACTION_BITS = {Grid.BFLOAT16: 7, Grid.FLOAT16: 10}
LEAST_STEP = {Grid.BFLOAT16: 2.0**-133, Grid.FLOAT16: 2.0**-24}
"""Between the smallest numbers, where the grid is even."""


def rows_on_grid(
    logits: Float[np.ndarray, "position candidate"], grid: Grid
) -> Bool[np.ndarray, " position"]:
    """Rows all of whose finite logits `grid` holds exactly; float32 in, -inf and NaN left out.

    A row without a finite logit other than 0 is on every grid: it says nothing.
    """
    values = np.where(np.isfinite(logits), logits, 0).astype(np.float32)
    if grid is Grid.BFLOAT16:
        held = (values.view(np.uint32) & LOW_BITS) == 0
    else:
        with np.errstate(over="ignore"):
            held = values.astype(np.float16).astype(np.float32) == values
    on_grid: Bool[np.ndarray, " position"] = held.all(axis=1)
    return on_grid


def logit_grid(logits: Float[np.ndarray, "position candidate"]) -> Grid | None:
    """The grid that every row sits on, the coarser where it is both; None where there is none.

    Logits of a head run in float32 miss the grid almost surely: each has one chance in 65,536
    (8,192 for float16) to lie on it. Rows that say nothing are left out; None if no other is there.
    """
    telling = logits[(np.isfinite(logits) & (logits != 0)).any(axis=1)]
    if len(telling) == 0:
        return None
    return next((grid for grid in Grid if rows_on_grid(telling, grid).all()), None)


def grid_step(logits: PerPosition, *, grid: Grid) -> PerPosition:
    """Distance in nats between neighbours of the grid, at the size of each logit.

    A logit from 16 up to 32 has neighbours 0.125 away in bfloat16, 0.015625 in float16; just below
    16, and on the inner side of 16 itself, half of that. NaN where the logit is not finite.
    """
    finite = np.isfinite(logits)
    _, exponent = np.frexp(np.where(finite, np.abs(logits), 0).astype(np.float64))
    # frexp gives a fraction in [1/2, 1), so the leading bit is 2 ** (exponent - 1).
    step = np.maximum(np.ldexp(1.0, exponent - 1 - FRACTION_BITS[grid]), LEAST_STEP[grid])
    at_zero = logits == 0
    return np.where(finite, np.where(at_zero, LEAST_STEP[grid], step), np.nan)
