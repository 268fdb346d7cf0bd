"""What truncation leaves as temperature moves, and how much mass the leading ranks hold.

Source: docs/method.md, Curves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import optimize
from scipy.interpolate import CubicSpline

from probing.analysis.decoding import entropy_of_prefix, mass_outside
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate, combined, mean_estimate
from probing.analysis.moments import moments_of
from probing.analysis.pair import Weighted
from probing.analysis.ranking import ranked, ranked_in_order, truncation
from probing.settings import Decoding

LEAST_OUTSIDE = 1e-9
"""Mean mass outside the top k below this is no more than what rounding leaves of a sum to 1."""

PerPoint = Float[np.ndarray, "position point"]
"""One column per point of a curve: a rank, or a temperature."""

FEWEST_NODES = 4
"""Temperatures that a cubic spline needs."""


def mass_by_rank(rows: Distributions, *, ranks: Sequence[int]) -> PerPoint:
    """The mass of the r likeliest tokens at T = 1, whole vocabulary, for every rank r.

    NaN where the candidates do not hold the r likeliest.
    """
    places = np.asarray(ranks, dtype=np.int64)
    parts = []
    for block in rows.blocks():
        order = ranked(rows.part(block), temperature=1.0)
        last = np.minimum(places, order.logits.shape[1]) - 1
        known = (places <= order.exact[:, None]) | ~order.has_tail[:, None]
        mass = order.cumulative[:, last] / order.total[:, None]
        parts.append(np.where(known, mass, np.nan))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Truncated:
    """What top-k and top-p leave, one column per temperature.

    Attributes:
        tail_mass: outside the top k; 1 - it is the top-k mass.
        nucleus_size: tokens in S; inf = more than the candidates can tell.
        entropy_kept_nats: of S, renormalised.
    """

    tail_mass: PerPoint
    nucleus_size: PerPoint
    entropy_kept_nats: PerPoint


QUANTITIES = ("nucleus_size", "entropy_kept_nats", "tail_mass")
"""Fields of `Truncated` in the order of tables."""


def over_temperatures(
    rows: Distributions, *, temperatures: Sequence[float], decoding: Decoding
) -> Truncated:
    """The statistics of `Truncated` at every temperature; the same as `decoding.statistics`.

    Args:
        rows: one distribution per position.
        temperatures: of evaluation, none of them greedy.
        decoding: top-k, top-p, min-p and their order; its own temperature is not used.

    Raises:
        OutsideContract: as `decoding.statistics`.
    """
    found = np.empty((len(QUANTITIES), len(rows.ids), len(temperatures)))
    for block in rows.blocks():
        part = rows.part(block)
        # The order of tokens is the same at every temperature.
        sorted_rows = ranked(part, temperature=1.0).source
        for place, temperature in enumerate(temperatures):
            found[:, block, place] = _at(sorted_rows, temperature=temperature, decoding=decoding)
    return Truncated(**dict(zip(QUANTITIES, found, strict=True)))


def _at(
    sorted_rows: Distributions, *, temperature: float, decoding: Decoding
) -> Float[np.ndarray, "quantity position"]:
    """Of one block at one temperature, in the order of `QUANTITIES`."""
    order = ranked_in_order(sorted_rows, temperature=temperature)
    kept = truncation(order, decoding=replace(decoding, temperature=temperature))
    whole = np.zeros(len(order.total))
    if np.isinf(kept.nucleus.size).any():
        whole = moments_of(order.tempered).entropy_nats
    return np.stack(
        [
            kept.nucleus.size,
            entropy_of_prefix(order, kept.nucleus, whole=whole),
            mass_outside(kept.top_k, order.total),
        ]
    )


@dataclass(frozen=True)
class Sides:
    """The means of both models along a curve, over the positions that both measure.

    Attributes:
        baseline, other: one estimate per point; over the same problems, so they can be subtracted.
    """

    baseline: list[Estimate]
    other: list[Estimate]

    @property
    def delta(self) -> list[Estimate]:
        """The difference, other - baseline."""
        pairs = zip(self.baseline, self.other, strict=True)
        return [second - first for first, second in pairs]


def mean_curve(values: PerPoint, *, counted: Weighted) -> list[Estimate]:
    """The weighted mean of every column; not finite = not measured, left out.

    Args:
        values: of positions and points.
        counted: what positions count.
    """
    return [
        mean_estimate(column, weights=counted.weights, clusters=counted.clusters, size=counted.size)
        for column in values.T
    ]


def mean_sides(baseline: PerPoint, other: PerPoint, *, counted: Weighted) -> Sides:
    """`mean_curve` of both models over the positions where both have a value."""
    both = np.isfinite(baseline) & np.isfinite(other)
    first, second = (
        mean_curve(np.where(both, side, np.nan), counted=counted) for side in (baseline, other)
    )
    return Sides(first, second)


def equal_mass_temperatures(
    tail_mass: Sides, *, temperatures: Sequence[float]
) -> Float[np.ndarray, " point"]:
    """For each temperature T of the baseline, the other's T' with the same mean top-k mass.

    With L(T) the log of the mean mass outside the top k, L_b is a cubic spline in log T through the
    points of the curve, and L_b(T') = L_a(T). Points of less mass than `LEAST_OUTSIDE` are out.
    NaN where T' would lie outside the curve, where fewer than four points are left, or where L_b
    does not rise with T.

    Args:
        tail_mass: mean mass outside the top k, of one group of positions.
        temperatures: of both models, ascending.
    """
    wanted = np.array([log_of(each).value for each in tail_mass.baseline])
    found = np.full(len(wanted), np.nan)
    levels = np.array([log_of(each).value for each in tail_mass.other])
    known = np.isfinite(levels)
    levels, log_t = levels[known], np.log(np.asarray(temperatures, dtype=np.float64))[known]
    if len(levels) < FEWEST_NODES or not (np.diff(levels) > 0).all():
        return found
    spline = CubicSpline(log_t, levels)
    # A level that is not known lies nowhere.
    for place in np.flatnonzero((levels[0] <= wanted) & (wanted <= levels[-1])):
        after = int(np.clip(np.searchsorted(levels, wanted[place]), 1, len(levels) - 1))
        ends = float(log_t[after - 1]), float(log_t[after])
        found[place] = np.exp(_crossing(spline, float(wanted[place]), ends))
    return found


def _crossing(spline: CubicSpline, level: float, ends: tuple[float, float]) -> float:
    """Where a spline has a level that lies between its values at two neighbouring points."""

    def left(place: float) -> float:
        return float(spline(place)) - level

    # At a point the spline may miss its own value by a rounding.
    if left(ends[0]) >= 0:
        return ends[0]
    if left(ends[1]) <= 0:
        return ends[1]
    return float(optimize.brentq(left, *ends, xtol=1e-13))


def log_of(estimate: Estimate) -> Estimate:
    """The log of a mean mass, linearised; NaN below `LEAST_OUTSIDE`."""
    if not estimate.value >= LEAST_OUTSIDE:
        return Estimate(float("nan"), np.zeros_like(estimate.influence), 0, 0)
    influence = estimate.influence / estimate.value
    return combined(float(np.log(estimate.value)), influence, parts=[estimate])


@dataclass(frozen=True)
class AtEqualMass:
    """The other model at the temperatures of `equal_mass_temperatures`.

    Attributes:
        temperatures: T', one per point of the curve; NaN where there is none.
        tail_mass, figure: mean mass outside the top k and mean figure there, measured at T' itself;
            what stands at a NaN is not used.
    """

    temperatures: Float[np.ndarray, " point"]
    tail_mass: list[Estimate]
    figure: list[Estimate]


def at_equal_mass(
    tail_mass: Sides, figure: Sides, there: AtEqualMass, *, temperatures: Sequence[float]
) -> list[Estimate]:
    """The other's mean figure F_b where it has the baseline's mean top-k mass, per temperature T.

        F_b(T') - r (L_b(T') - L_a(T)),   r = the slope of F_b over L_b between the points around T'

    The second term takes up what the spline missed. Since L_b and L_a are estimates, T' is one too:
    the same formula over the influences of the problems gives that of the result, so that its
    difference from `figure.baseline` has the right error.

    Args:
        tail_mass: mean mass outside the top k along the curve.
        figure: the mean figure along it, over the same positions.
        there: the other model at T'.
        temperatures: of the curve, ascending.
    """
    found = []
    for place, temperature in enumerate(there.temperatures):
        own = there.figure[place]
        if np.isnan(temperature):
            found.append(Estimate(float("nan"), np.zeros_like(own.influence), 0, 0))
            continue
        ends = _around(temperatures, temperature)
        rise = [each.value for each in (figure.other[i] for i in ends)]
        over = [log_of(tail_mass.other[i]).value for i in ends]
        slope = (rise[1] - rise[0]) / (over[1] - over[0])
        missed = log_of(there.tail_mass[place]) - log_of(tail_mass.baseline[place])
        found.append(
            combined(
                own.value - slope * missed.value,
                own.influence - slope * missed.influence,
                parts=[own, missed],
            )
        )
    return found


def _around(temperatures: Sequence[float], temperature: float) -> tuple[int, int]:
    """The neighbouring points between which a temperature lies."""
    after = int(np.clip(np.searchsorted(temperatures, temperature), 1, len(temperatures) - 1))
    return after - 1, after
