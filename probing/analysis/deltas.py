"""Deltas, other - baseline, and their weighted means per kind.

Source: docs/method.md, Notation and Intervals.
"""

from dataclasses import dataclass, fields

import numpy as np

from probing.analysis.decoding import Statistics
from probing.analysis.inference import ClusterInterval, Columns, cluster_intervals
from probing.settings import Inference
from probing.vocabulary import Kind, PerPosition, PositionIds, PositionMask

DELTA_NAMES: tuple[str, ...] = tuple(
    field.name for field in fields(Statistics) if field.name not in {"top1_id", "log_z"}
)
"""Statistics whose difference means something: logits of two models share no zero."""


def delta(baseline: PerPosition, other: PerPosition) -> PerPosition:
    """The delta, other - baseline; NaN ("not measured") where either is not finite.

    So a nucleus that is larger than the candidates can tell takes no part in a mean.
    """
    with np.errstate(invalid="ignore"):
        difference: PerPosition = np.asarray(other - baseline, dtype=np.float64)
    difference[~np.isfinite(difference)] = np.nan
    return difference


@dataclass(frozen=True)
class StatisticDeltas:
    """Deltas of every statistic; `names` are the columns of `values`."""

    names: tuple[str, ...]
    values: Columns

    def column(self, name: str) -> PerPosition:
        """The delta of one statistic."""
        one: PerPosition = self.values[:, self.names.index(name)]
        return one


def statistic_deltas(baseline: Statistics, other: Statistics) -> StatisticDeltas:
    """The delta of every statistic in `DELTA_NAMES`, in that order."""
    columns = [delta(getattr(baseline, name), getattr(other, name)) for name in DELTA_NAMES]
    return StatisticDeltas(names=DELTA_NAMES, values=np.stack(columns, axis=1))


@dataclass(frozen=True)
class GroupIntervals:
    """One group of positions.

    Attributes:
        positions: how many it has, measured or not.
        share: its share of all weight.
        intervals: one per column.
    """

    positions: int
    share: float
    intervals: list[ClusterInterval]


def grouped_intervals(
    values: Columns,
    *,
    groups: PositionIds,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> dict[int, GroupIntervals]:
    """Weighted means of the columns within each group that occurs, by group, ascending.

    Args:
        values: Deltas, one column per quantity.
        groups: A code per position (a kind, a stratum).
        weights: Of positions.
        clusters: Problem of each position.
        settings: See `cluster_intervals`.
        rng: Draws the clusters.
    """
    return {
        int(group): _group(
            values,
            groups == group,
            weights=weights,
            clusters=clusters,
            settings=settings,
            rng=rng,
        )
        for group in np.unique(groups)
    }


def kind_intervals(
    values: Columns,
    *,
    kind_codes: PositionIds,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> dict[Kind, GroupIntervals]:
    """`grouped_intervals` by kind; every kind is there, also without positions."""
    return {
        kind: _group(
            values,
            kind_codes == code,
            weights=weights,
            clusters=clusters,
            settings=settings,
            rng=rng,
        )
        for code, kind in enumerate(Kind)
    }


def _group(
    values: Columns,
    inside: PositionMask,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
    rng: np.random.Generator,
) -> GroupIntervals:
    total = float(weights.sum())
    return GroupIntervals(
        positions=int(inside.sum()),
        share=float(weights[inside].sum()) / total if total > 0 else float("nan"),
        intervals=cluster_intervals(
            values[inside],
            weights=weights[inside],
            clusters=clusters[inside],
            settings=settings,
            rng=rng,
        ),
    )


def per_carrier_weights(weights: PerPosition, carriers: PositionIds) -> PerPosition:
    """Weights under which every carrier counts alike, whatever its number of positions.

    Within a carrier they keep their proportions; each carrier's weights sum to 1 (or 0).
    """
    present, index = np.unique(carriers, return_inverse=True)
    sums = np.bincount(index, weights=weights, minlength=len(present))
    each = sums[index]
    shares = np.zeros(len(weights))
    np.divide(weights, each, out=shares, where=each > 0)
    return shares
