"""Intervals for weighted means over positions that come in clusters (problems)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from probing.settings import Inference
from probing.vocabulary import PerPosition, PositionIds


@dataclass(frozen=True)
class ClusterInterval:
    """A weighted mean with its interval.

    Attributes:
        estimate: weighted mean over positions with a value; NaN when there is none.
        low: lower end; NaN where no interval can be given.
        high: upper end; NaN where no interval can be given.
        clusters: problems with at least one value.
        positions: positions with a value.
        missing: positions without one (NaN): excluded, counted.
        method: "studentised bootstrap", "t" or "none".
        note: a warning for the reader, or "".
    """

    estimate: float
    low: float
    high: float
    clusters: int
    positions: int
    missing: int
    method: str
    note: str


@dataclass(frozen=True)
class _ClusterSums:
    """Per-cluster sufficient statistics of a ratio: S = sum of w x, W = sum of w."""

    value: Float[np.ndarray, " cluster"]
    weight: Float[np.ndarray, " cluster"]


@dataclass(frozen=True)
class _Ratio:
    """S / W with the standard error of a ratio over clusters; arrays or single numbers."""

    estimate: Float[np.ndarray, " *draw"]
    error: Float[np.ndarray, " *draw"]


def cluster_intervals(
    values: Float[np.ndarray, "position column"],
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> list[ClusterInterval]:
    """One interval per column; columns share the resampled clusters, so they are comparable.

    Whole clusters are resampled, never positions (method.md section 7). With few clusters the
    interval is Student's t with G - 1 degrees of freedom; with one cluster there is none.

    Args:
        values: deltas; NaN is "not measured".
        weights: positive, for instance inverse inclusion probabilities.
        clusters: the problem of each position.
        settings: draws, level, and how many clusters are few.
        rng: the source of the draws.
    """
    _, code = np.unique(clusters, return_inverse=True)
    count = int(code.max()) + 1 if len(code) else 0
    columns = [_sums(column, weights, code, count) for column in values.T]
    draws = np.empty((0, count), dtype=np.int64)
    if count >= settings.few_clusters:
        draws = rng.multinomial(count, np.full(count, 1 / count), size=settings.draws)
    return [
        _interval(column, sums, draws, settings=settings)
        for column, sums in zip(values.T, columns, strict=True)
    ]


def cluster_interval(
    values: PerPosition,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> ClusterInterval:
    """`cluster_intervals` for one column of values."""
    return cluster_intervals(
        values[:, None], weights=weights, clusters=clusters, settings=settings, rng=rng
    )[0]


def _sums(column: PerPosition, weights: PerPosition, code: PositionIds, count: int) -> _ClusterSums:
    measured = ~np.isnan(column)
    weight = np.where(measured, weights, 0).astype(np.float64)
    product = weight * np.where(measured, column, 0)
    return _ClusterSums(
        value=np.bincount(code, weights=product, minlength=count),
        weight=np.bincount(code, weights=weight, minlength=count),
    )


def _ratio(sums: _ClusterSums, draws: Float[np.ndarray, "draw cluster"]) -> _Ratio:
    """The ratio of every draw (rows are how often each cluster is taken) and its error."""
    value, weight = sums.value, sums.weight
    taken = draws @ (weight > 0)
    total_weight = draws @ weight
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = draws @ value / total_weight
        squares = (
            draws @ value**2
            - 2 * estimate * (draws @ (value * weight))
            + estimate**2 * (draws @ weight**2)
        )
        # Rounding may leave a tiny negative sum where every cluster has the same mean.
        variance = np.maximum(squares, 0) / total_weight**2 * taken / (taken - 1)
    return _Ratio(estimate=estimate, error=np.sqrt(variance))


def _interval(
    column: PerPosition,
    sums: _ClusterSums,
    draws: Float[np.ndarray, "draw cluster"],
    *,
    settings: Inference,
) -> ClusterInterval:
    measured = int((~np.isnan(column)).sum())
    clusters = int((sums.weight > 0).sum())
    whole = _ratio(sums, np.ones((1, len(sums.value))))
    estimate, error = float(whole.estimate[0]), float(whole.error[0])
    low, high, method, note = np.nan, np.nan, "none", ""
    if clusters < 2:
        note = "one problem has no interval" if clusters else "no position has a value"
    elif clusters < settings.few_clusters or len(draws) == 0:
        reach = float(stats.t.ppf((1 + settings.level) / 2, clusters - 1)) * error
        low, high, method = estimate - reach, estimate + reach, "t"
        note = f"only {clusters} problems (fewer than {settings.few_clusters})"
    else:
        low, high = _studentised(sums, draws, estimate=estimate, error=error, level=settings.level)
        method = "studentised bootstrap"
    return ClusterInterval(
        estimate=estimate,
        low=low,
        high=high,
        clusters=clusters,
        positions=measured,
        missing=len(column) - measured,
        method=method,
        note=note,
    )


class _Bounds(NamedTuple):
    low: float
    high: float


def _studentised(
    sums: _ClusterSums,
    draws: Float[np.ndarray, "draw cluster"],
    *,
    estimate: float,
    error: float,
    level: float,
) -> _Bounds:
    drawn = _ratio(sums, draws.astype(np.float64))
    usable = np.isfinite(drawn.error) & (drawn.error > 0)
    if not usable.any():  # every cluster has the same mean
        return _Bounds(low=estimate, high=estimate)
    pivots = (drawn.estimate[usable] - estimate) / drawn.error[usable]
    lower, upper = np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2])
    return _Bounds(low=estimate - float(upper) * error, high=estimate - float(lower) * error)
