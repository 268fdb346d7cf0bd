"""Tests over clusters whose signs could be flipped, and many tests at once.

Source: docs/method.md, Tests in the tables; sign flips after Fisher (1935).
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy import stats as scipy_stats

PValues: TypeAlias = Float[np.ndarray, " test"]

ROUNDING = 1e-12
"""Share of a sum that the order of adding may make, generously."""

EXACT_FLIPS = 12
"""With at most this many clusters every combination of signs is tried."""


def holm(p_values: PValues) -> PValues:
    """Adjusted p-values that bound the chance of any false claim in the family (Holm 1979).

    NaN ("not tested") stays NaN and does not count.

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    known, ordered = _ascending(p_values)
    factors = np.arange(len(ordered), 0, -1)
    return _placed(p_values, known, np.maximum.accumulate(ordered * factors))


def benjamini_hochberg(p_values: PValues) -> PValues:
    """Adjusted p-values that bound the share of false claims (Benjamini and Hochberg 1995).

    NaN stays NaN and does not count.

    Examples:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.04, 0.04]
    """
    known, ordered = _ascending(p_values)
    factors = len(ordered) / np.arange(1, len(ordered) + 1)
    falling = np.minimum.accumulate((ordered * factors)[::-1])[::-1]
    return _placed(p_values, known, falling)


def _ascending(p_values: PValues) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tested, by p-value, and their p-values."""
    known = np.flatnonzero(np.isfinite(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    return order, p_values[order]


def _placed(p_values: PValues, places: np.ndarray, adjusted: np.ndarray) -> PValues:
    found: PValues = np.full(len(p_values), np.nan)
    found[places] = np.minimum(adjusted, 1.0)
    return found


def sign_flip_p_value(
    contributions: Float[np.ndarray, " cluster"], *, draws: int, rng: np.random.Generator
) -> float:
    """Two-sided p-value of a sum whose clusters could as well have the other sign.

    Exact where there are few clusters; else over random signs, the observed ones among them.

    Args:
        contributions: of every cluster to the sum, such as the residuals of a mean about 0.
        draws: of signs.
        rng: draws them.
    """
    finite = contributions[np.isfinite(contributions)]
    # What the order of adding leaves of a cluster that adds nothing is no cluster, nor is a sum
    # nearer to 0 by as little.
    values = finite[np.abs(finite) > ROUNDING * np.abs(finite).max(initial=0)]
    count = len(values)
    if count == 0:
        return float("nan")
    least = abs(values.sum()) - ROUNDING * np.abs(values).sum()
    if count <= EXACT_FLIPS:
        return float((np.abs(all_signs(count) @ values) >= least).mean())
    signs = 1 - 2 * rng.integers(0, 2, size=(draws, count))
    return float((1 + (np.abs(signs @ values) >= least).sum()) / (1 + draws))


def all_signs(count: int) -> Float[np.ndarray, "combination cluster"]:
    """Every combination of signs."""
    bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    signs: Float[np.ndarray, "combination cluster"] = 1.0 - 2.0 * bits
    return signs


def detectable_effect(
    error: Float[np.ndarray, " test"],
    *,
    freedom: Float[np.ndarray, " test"] | Int[np.ndarray, " test"],
    level: float,
    power: float,
) -> Float[np.ndarray, " test"]:
    """The smallest effect that a two-sided test at 1 - level finds with this probability.

    Args:
        error: standard errors.
        freedom: degrees of freedom of Student's t.
        level: of the interval, such as 0.95.
        power: such as 0.8.
    """
    reach = scipy_stats.t.ppf((1 + level) / 2, freedom) + scipy_stats.t.ppf(power, freedom)
    found: Float[np.ndarray, " test"] = reach * error
    return found
