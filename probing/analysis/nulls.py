"""Nulls: what a delta would be if nothing had happened but selection (method.md section 5)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats as scipy_stats

from probing.analysis.estimates import Estimate, average, mean_estimate
from probing.analysis.inference import ClusterTotals, Columns, cluster_totals
from probing.vocabulary import PerPosition, PositionIds


class Sample(NamedTuple):
    """Positions of one group, as one side of an exchange sees them.

    Attributes:
        values: deltas, one column per quantity; not finite = not measured.
        weights: of positions and columns, >= 0.
        clusters: of positions, the same numbers on both sides.
    """

    values: Columns
    weights: Columns
    clusters: PositionIds


class Null(NamedTuple):
    """A null's value per column, with the bounds of its interval; NaN without two clusters."""

    value: Float[np.ndarray, " column"]
    low: Float[np.ndarray, " column"]
    high: Float[np.ndarray, " column"]


def role_exchange(own: Sample, exchanged: Sample, *, level: float) -> Null:
    """The role-exchange null of each column: half the sum of the two sides' weighted means.

    `own` holds b - a at the positions that the rule selects; `exchanged` holds a - b at those that
    it selects when the two models have changed places. What is left of a delta then comes from
    selection alone, whatever the noise is. Bounds are t(G - 1) around the linearised error over
    clusters, both sides of a cluster together.

    A column that one side does not measure is NaN.
    """
    clusters = np.concatenate([own.clusters, exchanged.clusters])
    size = int(clusters.max()) + 1 if len(clusters) else 0
    return role_exchange_of(
        *(cluster_totals(*side, size=size) for side in (own, exchanged)), level=level
    )


def role_exchange_of(first: ClusterTotals, second: ClusterTotals, *, level: float) -> Null:
    """`role_exchange` of sums over the same clusters on both sides."""
    means = [_mean(side.value.sum(axis=0), side.weight.sum(axis=0)) for side in (first, second)]
    value: Float[np.ndarray, " column"] = (means[0] + means[1]) / 2
    parts = [
        _mean(side.value - mean * side.weight, side.weight.sum(axis=0)) / 2
        for side, mean in zip((first, second), means, strict=True)
    ]
    residuals = parts[0] + parts[1]
    # No better known than the side that rests on the fewest clusters (estimates.combined).
    used = np.minimum(*((side.weight > 0).sum(axis=0) for side in (first, second)))
    spread = np.sqrt((residuals**2).sum(axis=0) * used / np.maximum(used - 1, 1))
    half = scipy_stats.t.ppf((1 + level) / 2, np.maximum(used - 1, 1)) * spread
    half = np.where(used < 2, np.nan, half)
    return Null(value=value, low=value - half, high=value + half)


def _mean(
    value: Float[np.ndarray, "*any column"], weight: Float[np.ndarray, " column"]
) -> Float[np.ndarray, "*any column"]:
    weight = np.broadcast_to(weight, value.shape)
    mean: Float[np.ndarray, "*any column"] = np.full_like(value, np.nan)
    np.divide(value, weight, out=mean, where=weight > 0)
    return mean


@dataclass(frozen=True)
class BesideNull:
    """A mean delta where a rule selects, and its role-exchange null, over the same problems."""

    own: Estimate
    null: Estimate

    @property
    def beyond(self) -> Estimate:
        """What is left of the delta beside the null."""
        return self.own - self.null

    def __sub__(self, other: "BesideNull") -> "BesideNull":
        return BesideNull(self.own - other.own, self.null - other.null)


def beside_null(
    delta: PerPosition,
    *,
    weights: PerPosition,
    exchanged_weights: PerPosition,
    clusters: PositionIds,
    size: int,
) -> BesideNull:
    """The weighted mean delta beside its role-exchange null, as estimates.

    For quantities that treat the models alike, so that exchanging them turns the delta's sign.

    Args:
        delta: other - baseline; not finite = not measured.
        weights: of positions; 0 where the rule does not select.
        exchanged_weights: the same with the models in each other's place.
        clusters: problem of each position, 0 ... size - 1.
        size: how many problems.
    """
    own, mirror = (
        mean_estimate(values, weights=each, clusters=clusters, size=size)
        for values, each in ((delta, weights), (-delta, exchanged_weights))
    )
    return BesideNull(own, average([own, mirror]))
