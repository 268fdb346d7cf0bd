"""Intervals for weighted means: whole clusters (problems) are resampled, never positions."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy import stats as scipy_stats

from probing.settings import Inference
from probing.vocabulary import PerPosition, PositionIds

Columns: TypeAlias = Float[np.ndarray, "position column"]
ClusterSums: TypeAlias = Float[np.ndarray, "cluster column"]
PerColumn: TypeAlias = Float[np.ndarray, " column"]

DRAW_BLOCK_COUNTS = 1 << 22
"""Cluster counts held at a time, over all draws of a block."""

TOTALS_BLOCK_ROWS = 1 << 14
"""Positions summed at a time: their numbers stay in the processor's cache."""

UNDEFINED_DRAWS_ALLOWED = 0.01
"""Share of draws without a standard error (every drawn cluster alike) that may be left out."""


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

    Bounds are those of the studentised bootstrap over whole clusters; all columns share the
    draws. With fewer than `settings.few_clusters` clusters they are t(G - 1) over the clusters'
    contributions, with a note; with one there are none.

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
    measured = np.isfinite(values)
    each = np.broadcast_to(weights[:, None], values.shape)
    present = numbered(clusters[counted])
    sums = _used(cluster_totals(values, each, present.number, size=present.size))
    estimate = _ratio(sums.value.sum(axis=0), sums.weight.sum(axis=0))
    count = (sums.weight > 0).sum(axis=0)
    error = _standard_error(sums, estimate, count)
    quantiles = _t_quantiles(count, level=settings.level)
    enough = count >= max(settings.few_clusters, 2)
    if enough.any():
        drawn = _draw(sums, estimate, count, settings=settings, rng=rng)
        enough &= np.isfinite(drawn).mean(axis=0) >= 1 - UNDEFINED_DRAWS_ALLOWED
        for column in np.flatnonzero(enough):
            quantiles[:, column] = _quantiles(drawn[:, column], level=settings.level)
    low = np.where(count < 2, np.nan, estimate - quantiles[1] * error)
    high = np.where(count < 2, np.nan, estimate - quantiles[0] * error)
    return [
        ClusterInterval(
            estimate=float(estimate[column]),
            low=float(low[column]),
            high=float(high[column]),
            clusters=int(count[column]),
            positions=int(measured[:, column].sum()),
            missing=int((~measured[:, column]).sum()),
            method=_method(int(count[column]), bool(enough[column])),
            note=_note(int(count[column]), bool(enough[column]), settings=settings),
        )
        for column in range(values.shape[1])
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


def _used(totals: ClusterTotals) -> ClusterTotals:
    """Without the clusters that are measured in no column."""
    used = (totals.weight > 0).any(axis=1)
    return ClusterTotals(weight=totals.weight[used], value=totals.value[used])


def _ratio(
    value: Float[np.ndarray, "*any"], weight: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    ratio = np.full_like(value, np.nan)
    np.divide(value, weight, out=ratio, where=weight > 0)
    return ratio


def _standard_error(
    sums: ClusterTotals, estimate: PerColumn, count: Int[np.ndarray, " column"]
) -> PerColumn:
    """Linearised (ratio) error: clusters' summed residuals over the summed weight."""
    residuals = sums.value - estimate * sums.weight
    squares: PerColumn = (residuals**2).sum(axis=0)
    error = np.zeros_like(squares)
    total = sums.weight.sum(axis=0)
    np.divide(np.sqrt(squares * _correction(count)), total, out=error, where=total > 0)
    return error


def _correction(count: Int[np.ndarray, " column"]) -> PerColumn:
    correction: PerColumn = count / np.maximum(count - 1, 1)
    return correction


def _t_quantiles(
    count: Int[np.ndarray, " column"], *, level: float
) -> Float[np.ndarray, "bound column"]:
    upper = scipy_stats.t.ppf((1 + level) / 2, np.maximum(count - 1, 1))
    return np.stack([-upper, upper])


def _quantiles(drawn: Float[np.ndarray, " draw"], *, level: float) -> Float[np.ndarray, " bound"]:
    tails = [(1 - level) / 2, (1 + level) / 2]
    found: Float[np.ndarray, " bound"] = np.quantile(drawn[np.isfinite(drawn)], tails)
    return found


def _draw(
    sums: ClusterTotals,
    estimate: PerColumn,
    count: Int[np.ndarray, " column"],
    *,
    settings: Inference,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw column"]:
    """Studentised draws, (mean* - mean) / error*; NaN where a draw has no error.

    A draw's sums are how often each cluster was drawn, times the clusters' sums.
    """
    clusters = len(sums.weight)
    # Residuals about the estimate: what is squared stays small beside what it is compared with.
    residual = sums.value - estimate * sums.weight
    terms = np.concatenate(
        [residual, sums.weight, residual**2, residual * sums.weight, sums.weight**2], axis=1
    )
    step = max(1, DRAW_BLOCK_COUNTS // clusters)
    parts = []
    for start in range(0, settings.draws, step):
        block = min(step, settings.draws - start)
        picks = rng.integers(0, clusters, size=(block, clusters))
        picks += np.arange(block)[:, None] * clusters
        counts = np.bincount(picks.ravel(), minlength=block * clusters).reshape(block, clusters)
        parts.append(_studentised(counts.astype(np.float64) @ terms, count))
    return np.concatenate(parts)


def _studentised(
    drawn: Float[np.ndarray, "draw term"], count: Int[np.ndarray, " column"]
) -> Float[np.ndarray, "draw column"]:
    residual, weight, square, cross, weight_square = np.split(drawn, 5, axis=1)
    shift = _ratio(residual, weight)
    variance = square - 2 * shift * cross + shift**2 * weight_square
    # What rounding leaves of a draw whose clusters are all alike is no error.
    floor = 1e-12 * square
    error = np.sqrt(np.where(variance > floor, variance, 0.0) * _correction(count))
    return _ratio(shift * weight, error)
