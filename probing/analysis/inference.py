"""Intervals for weighted means: whole clusters (problems) are resampled, never positions.

Source: docs/method.md, Intervals: the bootstrap-t (Efron, 1982), clusters resampled whole
(Cameron, Gelbach and Miller, 2008).
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import sparse
from scipy import stats as scipy_stats

from probing.settings import Inference
from probing.vocabulary import PerPosition, PositionIds

Columns: TypeAlias = Float[np.ndarray, "position column"]
ClusterSums: TypeAlias = Float[np.ndarray, "cluster column"]
PerColumn: TypeAlias = Float[np.ndarray, " column"]
ColumnCounts: TypeAlias = Int[np.ndarray, " column"]
Draws: TypeAlias = Float[np.ndarray, "draw column"]

DRAW_BLOCK_COUNTS = 1 << 22
"""Cluster counts held at a time, over all draws of a block."""

REMEMBERED_COUNTS, REMEMBERED_PICKS = 4_000_000, 16
"""No larger table of picks is remembered, and no more of them: 64 MB."""

TOTALS_BLOCK_ROWS = 1 << 14
"""Positions summed at a time: their numbers stay in the processor's cache."""

UNDEFINED_DRAWS_ALLOWED = 0.01
"""Share of draws without a standard error (every drawn cluster alike) that may be left out."""

ROUNDING = 1e-9
"""Standard errors that the order of adding may make, generously."""

TAIL_SHARE = 0.01
"""Share of draws that must lie beyond a figure for their count to be its p-value."""


_PICKED: "OrderedDict[tuple[str, int, int], tuple[np.ndarray, Any]]" = OrderedDict()
_LOCK = Lock()


class IntervalMethod(StrEnum):
    """How an interval was made."""

    BOOTSTRAP = "studentised cluster bootstrap"
    STUDENT = "t(G - 1) over clusters"
    NONE = "none"


@dataclass(frozen=True)
class ClusterInterval:
    """A weighted mean over positions and its interval.

    Attributes:
        estimate: NaN if no position was measured.
        low, high: bounds; NaN with fewer than two clusters.
        clusters: clusters with at least one measured position of positive weight.
        positions: measured positions of positive weight.
        missing: positions of positive weight that were left out as not measured.
        method: how the bounds were made.
        note: a warning to show beside the interval; empty if there is none.
    """

    estimate: float
    low: float
    high: float
    clusters: int
    positions: int
    missing: int
    method: IntervalMethod
    note: str


class ClusterTotals(NamedTuple):
    """Per cluster and column: summed weight, and summed weight times value."""

    weight: ClusterSums
    value: ClusterSums

    def part(self, columns: PositionIds) -> "ClusterTotals":
        """Some of the columns."""
        return ClusterTotals(self.weight[:, columns], self.value[:, columns])


class Bounds(NamedTuple):
    """Ends of an interval per column; NaN with fewer than two clusters."""

    low: PerColumn
    high: PerColumn


@dataclass(frozen=True)
class Pivots:
    """Figures over clusters, and how far off in standard errors such figures lie by chance.

    Attributes:
        estimate: NaN where nothing was measured.
        error: linearised standard error over clusters; 0 with fewer than two.
        clusters: with a measured value, of the side that has fewer.
        bootstrapped: whether the draws are to be used: there are enough clusters, and they differ.
        drawn: (estimate* - estimate) / error* of every draw; no draws where no column needs any.
    """

    estimate: PerColumn
    error: PerColumn
    clusters: ColumnCounts
    bootstrapped: Bool[np.ndarray, " column"]
    drawn: Draws

    @property
    def freedom(self) -> ColumnCounts:
        """Degrees of freedom of Student's t."""
        freedom: ColumnCounts = np.maximum(self.clusters - 1, 1)
        return freedom

    def part(self, columns: PositionIds) -> "Pivots":
        """Some of the columns."""
        return Pivots(
            self.estimate[columns],
            self.error[columns],
            self.clusters[columns],
            self.bootstrapped[columns],
            self.drawn[:, columns],
        )

    def bounds(self, *, level: float) -> Bounds:
        """The ends of the interval: the bootstrap's, and never inside those of t(G - 1)."""
        upper: PerColumn = np.array(scipy_stats.t.ppf((1 + level) / 2, self.freedom))
        lower = -upper
        tails = [(1 - level) / 2, (1 + level) / 2]
        for column in np.flatnonzero(self.bootstrapped):
            drawn = self.drawn[:, column]
            found = np.quantile(drawn[np.isfinite(drawn)], tails)
            lower[column] = min(lower[column], found[0])
            upper[column] = max(upper[column], found[1])
        known = self.clusters >= 2
        return Bounds(
            low=np.where(known, self.estimate - upper * self.error, np.nan),
            high=np.where(known, self.estimate - lower * self.error, np.nan),
        )

    def p_values(self) -> PerColumn:
        """Two-sided p-value of every figure's being 0; NaN where the draws are not to be used.

        As the interval, it is the more careful of two: the bootstrap's and that of t(G - 1). Beyond
        all but `TAIL_SHARE` of the draws their count tells little; there Student's tail goes on
        from the last draw that is not beyond.
        """
        p_values = np.full(len(self.estimate), np.nan)
        for column in np.flatnonzero(self.bootstrapped):
            signed = float(self.estimate[column] / self.error[column])
            distance, freedom = abs(signed), int(self.freedom[column])
            if distance < ROUNDING:  # Nothing but rounding, whose sign says nothing.
                p_values[column] = 1.0
                continue
            drawn = self.drawn[:, column] * np.sign(signed)
            own = _tail(np.sort(drawn[np.isfinite(drawn)]), distance, freedom=freedom)
            p_values[column] = min(1.0, 2 * max(own, scipy_stats.t.sf(distance, freedom)))
        return p_values


def _tail(drawn: Float[np.ndarray, " draw"], distance: float, *, freedom: int) -> float:
    """How likely a draw lies at `distance` > 0 or beyond.

    Args:
        drawn: ascending.
        distance: in standard errors.
        freedom: of the Student's tail beyond the draws.
    """
    count = len(drawn)
    # A draw as far off but for rounding is not less far.
    beyond = count - int(np.searchsorted(drawn, distance - ROUNDING))
    least = max(1, int(TAIL_SHARE * count))
    edge = drawn[-least]
    if beyond >= least or not edge > 0:
        return (1 + beyond) / (1 + count)
    stretch = scipy_stats.t.isf((1 + least) / (1 + count), freedom) / edge
    return float(scipy_stats.t.sf(distance * stretch, freedom))


def cluster_interval(
    values: PerPosition,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> ClusterInterval:
    """The weighted mean of `values` with an interval; see `cluster_intervals`."""
    return cluster_intervals(
        values[:, None], weights=weights, clusters=clusters, settings=settings, rng=rng
    )[0]


def cluster_intervals(
    values: Columns,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> list[ClusterInterval]:
    """The weighted mean of each column with an interval (method.md section 7).

    Bounds are those of the studentised bootstrap over whole clusters, and nowhere inside those of
    t(G - 1) over the clusters' contributions; all columns share the draws. With fewer than
    `settings.few_clusters` clusters they are those of t(G - 1), with a note; with one there are
    none.

    Args:
        values: One column per quantity; not finite = not measured: left out and counted.
        weights: Of positions, >= 0 (inverse inclusion probabilities).
        clusters: Which cluster each position belongs to, any integers.
        settings: Draws, level, few clusters.
        rng: Draws the clusters.

    Raises:
        ValueError: a weight is negative or not finite.
    """
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        raise ValueError(f"weights must be finite and >= 0, got {weights[bad][0]} among them")
    counted = weights > 0
    values, weights = values[counted].astype(np.float64), weights[counted].astype(np.float64)
    present = numbered(clusters[counted])
    each = np.broadcast_to(weights[:, None], values.shape)
    sums = cluster_totals(values, each, present.number, size=present.size)
    found = pivots([sums], settings=settings, rng=rng)
    positions = np.isfinite(values).sum(axis=0)
    missing = len(values) - positions
    return intervals(found, positions=positions, missing=missing, settings=settings)


def intervals(
    found: Pivots, *, positions: ColumnCounts, missing: ColumnCounts, settings: Inference
) -> list[ClusterInterval]:
    """One interval per column, with what it rests on.

    Args:
        found: of `pivots`.
        positions: measured ones of each column.
        missing: of each column.
        settings: level, few clusters.
    """
    bounds = found.bounds(level=settings.level)
    return [
        ClusterInterval(
            estimate=float(found.estimate[column]),
            low=float(bounds.low[column]),
            high=float(bounds.high[column]),
            clusters=int(found.clusters[column]),
            positions=int(positions[column]),
            missing=int(missing[column]),
            method=_method(int(found.clusters[column]), bool(found.bootstrapped[column])),
            note=_note(
                int(found.clusters[column]), bool(found.bootstrapped[column]), settings=settings
            ),
        )
        for column in range(len(found.estimate))
    ]


def _method(clusters: int, enough: bool) -> IntervalMethod:
    if clusters < 2:
        return IntervalMethod.NONE
    return IntervalMethod.BOOTSTRAP if enough else IntervalMethod.STUDENT


def _note(clusters: int, enough: bool, *, settings: Inference) -> str:
    if clusters == 0:
        return "nothing measured"
    if clusters == 1:
        return "one problem: no interval"
    if clusters < settings.few_clusters:
        return f"{clusters} problems, fewer than {settings.few_clusters}: a wide guess"
    return "" if enough else "nearly all problems are alike: t(G - 1), not the bootstrap"


class Numbered(NamedTuple):
    """The clusters of positions as 0 … size - 1, in their order."""

    number: PositionIds
    size: int


def numbered(clusters: PositionIds) -> Numbered:
    """Number the clusters that occur; small numbers are looked up, where others are sorted."""
    low, high = int(clusters.min(initial=0)), int(clusters.max(initial=0))
    if high - low > len(clusters):
        present, index = np.unique(clusters, return_inverse=True)
        return Numbered(index, len(present))
    occurs = np.zeros(high - low + 1, dtype=bool)
    occurs[clusters - low] = True
    place = np.cumsum(occurs) - 1
    return Numbered(place[clusters - low], int(occurs.sum()))


def cluster_totals(
    values: Columns, weights: Columns, clusters: PositionIds, *, size: int
) -> ClusterTotals:
    """Sums over the measured positions of each cluster 0 … size - 1.

    Args:
        values: not finite = not measured, left out.
        weights: of positions and columns, >= 0.
        clusters: of positions.
        size: how many clusters there are.
    """
    totals = ClusterTotals(*np.zeros((2, size, values.shape[1])))
    for start in range(0, len(clusters), TOTALS_BLOCK_ROWS):
        block = slice(start, start + TOTALS_BLOCK_ROWS)
        own, measured = clusters[block], np.isfinite(values[block])
        products = np.zeros(measured.shape)
        np.multiply(weights[block], values[block], out=products, where=measured)
        # One entry per position: the cluster that its row of numbers is added to.
        member = sparse.csc_array(
            (np.ones(len(own)), own, np.arange(len(own) + 1)), shape=(size, len(own))
        )
        np.add(totals.weight, member @ np.where(measured, weights[block], 0.0), out=totals.weight)
        np.add(totals.value, member @ products, out=totals.value)
    return totals


def pivots(
    sides: Sequence[ClusterTotals],
    *,
    factors: Sequence[float] = (1.0,),
    settings: Inference,
    rng: np.random.Generator,
) -> Pivots:
    """The sum of factor times weighted mean over the sides, with draws of whole clusters.

    Args:
        sides: of the same clusters in the same order; all sides of a cluster are drawn together.
        factors: one per side.
        settings: draws, few clusters.
        rng: draws the clusters.
    """
    used = np.logical_or.reduce([(side.weight > 0).any(axis=1) for side in sides])
    sides = [ClusterTotals(side.weight[used], side.value[used]) for side in sides]
    total = [side.weight.sum(axis=0) for side in sides]
    means = [_ratio(s.value.sum(axis=0), t) for s, t in zip(sides, total, strict=True)]
    estimate: PerColumn = np.sum([f * m for f, m in zip(factors, means, strict=True)], axis=0)
    count: ColumnCounts = np.min([(side.weight > 0).sum(axis=0) for side in sides], axis=0)
    # Residuals about the mean: what is squared stays small beside what it is compared with.
    residuals = [s.value - m * s.weight for s, m in zip(sides, means, strict=True)]
    influence: ClusterSums = np.sum(
        [
            f * _ratio(r, np.broadcast_to(t, r.shape))
            for f, r, t in zip(factors, residuals, total, strict=True)
        ],
        axis=0,
    )
    error: PerColumn = np.nan_to_num(np.sqrt((influence**2).sum(axis=0) * _correction(count)))
    enough = count >= max(settings.few_clusters, 2)
    drawn: Draws = np.zeros((0, len(estimate)))
    if enough.any():
        terms = [(r, s.weight) for r, s in zip(residuals, sides, strict=True)]
        drawn = _draw(terms, factors, settings=settings, rng=rng) / np.sqrt(_correction(count))
        enough &= np.isfinite(drawn).mean(axis=0) >= 1 - UNDEFINED_DRAWS_ALLOWED
    return Pivots(estimate, error, count, enough, drawn)


def _ratio(
    value: Float[np.ndarray, "*any"], weight: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    ratio = np.full_like(value, np.nan)
    np.divide(value, weight, out=ratio, where=weight > 0)
    return ratio


def _correction(count: ColumnCounts) -> PerColumn:
    correction: PerColumn = count / np.maximum(count - 1, 1)
    return correction


def _draw(
    terms: Sequence[tuple[ClusterSums, ClusterSums]],
    factors: Sequence[float],
    *,
    settings: Inference,
    rng: np.random.Generator,
) -> Draws:
    """Studentised draws, (estimate* - estimate) / error*; NaN where a draw has no error.

    A draw's sums are how often each cluster was drawn, times the clusters' sums.

    Args:
        terms: residuals and weights of every side.
        factors: one per side.
        settings: draws.
        rng: draws the clusters.
    """
    own = [term for side in terms for term in side]
    clusters, columns = own[0].shape
    pairs = [(i, j) for i in range(len(own)) for j in range(i, len(own))]
    table = np.concatenate([*own, *(own[i] * own[j] for i, j in pairs)], axis=1)
    step = max(1, DRAW_BLOCK_COUNTS // max(clusters, 1))
    parts = []
    for start in range(0, settings.draws, step):
        block = min(step, settings.draws - start)
        counts = _picked(rng, block, clusters)
        sums = np.split(counts.astype(np.float64) @ table, table.shape[1] // columns, axis=1)
        squares = dict(zip(pairs, sums[len(own) :], strict=True))
        parts.append(_studentised(sums[: len(own)], squares, factors))
    return np.concatenate(parts)


def _picked(
    rng: np.random.Generator, draws: int, clusters: int
) -> Shaped[np.ndarray, "draw cluster"]:
    """How often each draw picks each cluster; the generator is left as if it had drawn.

    The groups of a table are drawn from one seed and often have as many clusters, so the last
    picks are remembered.
    """
    state = rng.bit_generator.state
    key = (json.dumps(state, default=str), draws, clusters)
    with _LOCK:
        found = _PICKED.get(key)
        if found is not None:
            _PICKED.move_to_end(key)
            rng.bit_generator.state = found[1]
            return found[0]
    picks = rng.integers(0, clusters, size=(draws, clusters))
    picks += np.arange(draws)[:, None] * clusters
    counts = np.bincount(picks.ravel(), minlength=draws * clusters).reshape(draws, clusters)
    if draws * clusters <= REMEMBERED_COUNTS and counts.max(initial=0) < 256:
        with _LOCK:
            _PICKED[key] = (counts.astype(np.uint8), rng.bit_generator.state)
            while len(_PICKED) > REMEMBERED_PICKS:
                _PICKED.popitem(last=False)
    return counts


def _studentised(
    sums: Sequence[Draws], squares: dict[tuple[int, int], Draws], factors: Sequence[float]
) -> Draws:
    """Shift of every draw over its error, G / (G - 1) left out.

    A cluster moves a draw by the sum over the sides of factor (residual - shift weight) / total
    weight: its square is a sum over pairs of residuals and weights.

    Args:
        sums: drawn sums of residuals and weights, side by side.
        squares: drawn sums of products of any two of them.
        factors: one per side.
    """
    shift: Draws = np.zeros_like(sums[0])
    scales: list[Draws] = []
    for side, factor in enumerate(factors):
        residual, weight = sums[2 * side], sums[2 * side + 1]
        own, each = _ratio(residual, weight), factor * _ratio(np.ones_like(weight), weight)
        shift += factor * own
        scales += [each, -own * each]
    variance: Draws = np.zeros_like(shift)
    floor: Draws = np.zeros_like(shift)
    for (i, j), square in squares.items():
        variance += (1 if i == j else 2) * scales[i] * scales[j] * square
        if i == j and i % 2 == 0:
            floor += scales[i] ** 2 * square
    # What rounding leaves of a draw whose clusters are all alike is no error.
    return _ratio(shift, np.sqrt(np.where(variance > 1e-12 * floor, variance, 0.0)))
