"""What truncation leaves as temperature moves, and how much mass the leading ranks hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import optimize
from scipy.interpolate import CubicSpline

from probing.analysis.decoding import entropy_of_prefix, mass_outside
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.moments import moments_of
from probing.analysis.pair import Weighted
from probing.analysis.ranking import ranked, ranked_in_order, truncation
from probing.settings import Decoding

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


def _at(sorted_rows: Distributions, *, temperature: float, decoding: Decoding) -> PerPoint:
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
        """other - baseline."""
        pairs = zip(self.baseline, self.other, strict=True)
        return [second - first for first, second in pairs]


def mean_curves(baseline: PerPoint, other: PerPoint, *, counted: Weighted) -> Sides:
    """Weighted means of every column over the positions where both models have a value.

    Args:
        baseline, other: not finite = not measured.
        counted: what positions count.
    """
    both = np.isfinite(baseline) & np.isfinite(other)
    first, second = (
        [
            mean_estimate(
                values,
                weights=np.where(measured, counted.weights, 0.0),
                clusters=counted.clusters,
                size=counted.size,
            )
            for values, measured in zip(side.T, both.T, strict=True)
        ]
        for side in (baseline, other)
    )
    return Sides(first, second)


@dataclass(frozen=True)
class Matched:
    """Both models where they leave as much mass in the top k.

    Attributes:
        temperature: of the other; NaN where no temperature of the curve has that mass.
        baseline: the figure at its own temperature.
        other: the figure at `temperature`; its error knows that the temperature was estimated.
    """

    temperature: float
    baseline: Estimate
    other: Estimate

    @property
    def delta(self) -> Estimate:
        """other - baseline."""
        return self.other - self.baseline


def matched(tail_mass: Sides, figure: Sides, *, temperatures: Sequence[float]) -> list[Matched]:
    """A figure of both models at equal mean top-k mass, one entry per temperature of the baseline.

    With L(T) the log of the mean tail mass and F(T) the mean figure of a group of positions, T' is
    where L_b(T') = L_a(T), and the delta is F_b(T') - F_a(T). L_b, F_b and the influences of the
    problems are cubic splines in log T through the points of the curve. By the implicit function
    theorem the influence of F_b(T') is

        IF[F_b](T') - F_b'(T') / L_b'(T') * (IF[L_b](T') - IF[L_a](T)).

    Points without tail mass take no part. NaN where T' would lie outside the curve, where fewer
    than four points are left, or where L_b does not rise with T.

    Args:
        tail_mass: mean mass outside the top k.
        figure: what is compared, over the same positions.
        temperatures: of both, ascending.
    """
    log_t = np.log(np.asarray(temperatures, dtype=np.float64))
    curve = _curve(log_t, tail_mass.other, figure.other)
    return [
        _match(curve, _log_of(outside), own)
        for outside, own in zip(tail_mass.baseline, figure.baseline, strict=True)
    ]


def _log_of(estimate: Estimate) -> Estimate:
    """The log of an estimate, linearised; NaN unless it is above 0."""
    if not estimate.value > 0:
        return Estimate(float("nan"), np.zeros_like(estimate.influence), estimate.positions)
    influence = estimate.influence / estimate.value
    return Estimate(float(np.log(estimate.value)), influence, estimate.positions)


@dataclass(frozen=True)
class _Curve:
    """Splines in log T: of the log tail mass and the figure, values and influences."""

    log_t: Float[np.ndarray, " node"]
    nodes: Float[np.ndarray, " node"]
    outside: CubicSpline
    figure: CubicSpline
    outside_influence: CubicSpline
    figure_influence: CubicSpline


def _curve(
    log_t: Float[np.ndarray, " point"], tail_mass: list[Estimate], figure: list[Estimate]
) -> _Curve | None:
    outside = [_log_of(each) for each in tail_mass]
    levels = np.array([each.value for each in outside])
    values = np.array([each.value for each in figure])
    known = np.flatnonzero(np.isfinite(levels) & np.isfinite(values))
    if len(known) < FEWEST_NODES or not (np.diff(levels[known]) > 0).all():
        return None
    x = log_t[known]
    return _Curve(
        log_t=x,
        nodes=levels[known],
        outside=CubicSpline(x, levels[known]),
        figure=CubicSpline(x, values[known]),
        outside_influence=CubicSpline(x, np.stack([outside[i].influence for i in known])),
        figure_influence=CubicSpline(x, np.stack([figure[i].influence for i in known])),
    )


def _match(curve: _Curve | None, wanted: Estimate, own: Estimate) -> Matched:
    missing = Estimate(float("nan"), np.zeros_like(own.influence), 0)
    level = wanted.value
    # A level that is not known lies nowhere.
    if curve is None or not curve.nodes[0] <= level <= curve.nodes[-1]:
        return Matched(float("nan"), own, missing)
    at = _place(curve, level)
    slope = float(curve.figure(at, 1) / curve.outside(at, 1))
    shift = curve.outside_influence(at) - wanted.influence
    value = float(curve.figure(at))
    influence = curve.figure_influence(at) - slope * shift
    return Matched(float(np.exp(at)), own, Estimate(value, influence, own.positions))


def _place(curve: _Curve, level: float) -> float:
    """log T' at which the log tail mass has this level, which lies within the curve."""
    after = int(np.clip(np.searchsorted(curve.nodes, level), 1, len(curve.nodes) - 1))
    low, high = float(curve.log_t[after - 1]), float(curve.log_t[after])

    def left(place: float) -> float:
        return float(curve.outside(place)) - level

    # At a node the spline may miss its own value by a rounding.
    if left(low) >= 0:
        return low
    if left(high) <= 0:
        return high
    return float(optimize.brentq(left, low, high, xtol=1e-12))
