"""Estimates that can be subtracted from each other: values with what each problem adds to them.

Source: docs/method.md, Intervals and Evidence: ratio estimates linearised over clusters
(Woodruff, 1971), errors with G / (G - 1); over problems and tokens at once after Cameron, Gelbach
and Miller (2011).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy import stats as scipy_stats

from probing.analysis.testing import detectable_effect
from probing.vocabulary import PerPosition, PositionIds


@dataclass(frozen=True)
class Estimate:
    """A figure over positions, linearised over clusters (problems).

    Attributes:
        value: NaN if nothing was measured.
        influence: by how much each cluster moves it, shape (cluster,); they sum to 0. Two estimates
            over the same clusters can be subtracted, and the error of their difference knows how
            they go together.
        positions: how many carry it.
        least_clusters: how many clusters carry it; of a combination, its part with the fewest. None
            where those that move it are counted.
        cells: by how much each token of each cluster moves it, (cluster, token), for a figure that
            tokens of their own could move in every problem alike; their rows sum to `influence`.
        between_tokens: the variance that this adds, once `cells` are let go.
        tokens: as how many tokens of equal part those count that tell the figure; they give the
            degrees of freedom where they are fewer than the clusters.
    """

    value: float
    influence: Float[np.ndarray, " cluster"]
    positions: int
    least_clusters: int | None = None
    cells: sparse.csr_array | None = None
    between_tokens: float = 0.0
    tokens: float = math.inf

    @property
    def clusters(self) -> int:
        """How many clusters carry it: they give the degrees of freedom."""
        if self.least_clusters is not None:
            return self.least_clusters
        return int((self.influence != 0).sum())

    @property
    def error(self) -> float:
        """Standard error over clusters, G / (G - 1) times; NaN with fewer than two."""
        count = self.clusters
        if count < 2:
            return float("nan")
        variance = count / (count - 1) * (self.influence**2).sum()
        return float(np.sqrt(variance + self._tokens_add))

    @cached_property
    def _tokens_add(self) -> float:
        """Variance over tokens less that over tokens of one cluster, at least 0."""
        if self.cells is None:
            return self.between_tokens
        by_token = np.asarray(self.cells.sum(axis=0), dtype=np.float64)
        return max(float((by_token**2).sum() - (self.cells.data**2).sum()), 0.0)

    def settled(self) -> "Estimate":
        """Without its cells, for keeping: it can no longer be subtracted from another."""
        return replace(self, cells=None, between_tokens=self._tokens_add)

    @property
    def _freedom(self) -> float:
        return max(min(float(self.clusters), self.tokens) - 1, 1.0)

    def interval(self, *, level: float) -> tuple[float, float]:
        """Bounds, t(G - 1)."""
        half = float(scipy_stats.t.ppf((1 + level) / 2, self._freedom)) * self.error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Two-sided, t(G - 1), of its being 0; NaN without an error."""
        if not self.error > 0:
            return float("nan")
        return float(2 * scipy_stats.t.sf(abs(self.value) / self.error, self._freedom))

    def one_sided(self, bound: float) -> float:
        """p-value of its lying on the other side of a bound than it does, t(G - 1)."""
        if not self.error > 0:
            return float("nan")
        return float(scipy_stats.t.sf(abs(self.value - bound) / self.error, self._freedom))

    def equivalence(self, *, margin: float) -> float:
        """p-value of two one-sided tests (Schuirmann 1987) that it is within +-margin of 0."""
        if not self.error > 0:
            return float("nan")
        return float(scipy_stats.t.sf((margin - abs(self.value)) / self.error, self._freedom))

    def detectable(self, *, level: float, power: float = 0.8) -> float:
        """The smallest effect that a test at 1 - level would have found with this power."""
        return float(
            detectable_effect(
                np.array([self.error]),
                freedom=np.array([self._freedom]),
                level=level,
                power=power,
            )[0]
        )

    def __sub__(self, other: "Estimate") -> "Estimate":
        parts = [self, other]
        return combined(
            self.value - other.value,
            self.influence - other.influence,
            parts=parts,
            cells=_weighed_cells(parts, [1.0, -1.0]),
        )


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Their plain mean: of an estimate and the one in exchanged roles, or of draws of one null."""
    return combined(
        float(np.mean([each.value for each in estimates])),
        np.mean([each.influence for each in estimates], axis=0),
        parts=estimates,
        cells=_weighed_cells(estimates, [1 / len(estimates)] * len(estimates)),
    )


def _weighed_cells(
    estimates: Sequence[Estimate], factors: Sequence[float]
) -> sparse.csr_array | None:
    """The same combination of what tokens add; a part without cells adds none."""
    parts = [
        factor * each.cells
        for each, factor in zip(estimates, factors, strict=True)
        if each.cells is not None
    ]
    return sum(parts[1:], start=parts[0]) if parts else None


def combined(
    value: float,
    influence: Float[np.ndarray, " cluster"],
    *,
    parts: Sequence[Estimate],
    cells: sparse.csr_array | None = None,
) -> Estimate:
    """A figure made of others: no better known than the part that rests on the fewest clusters.

    A part without any, such as a null that is 0 by symmetry, has no error to speak of.
    """
    carried = [each.clusters for each in parts if each.clusters]
    return Estimate(
        value,
        influence,
        min(each.positions for each in parts),
        min(carried, default=0),
        cells,
        tokens=min(each.tokens for each in parts),
    )


def mean_estimate(
    values: PerPosition, *, weights: PerPosition, clusters: PositionIds, size: int
) -> Estimate:
    """The weighted mean over the measured positions, a ratio of two sums over clusters.

    Args:
        values: not finite = not measured, left out.
        weights: of positions, >= 0.
        clusters: of positions, 0 ... size - 1.
        size: how many clusters there are.
    """
    measured = np.isfinite(values) & (weights > 0)
    weight = weights[measured].astype(np.float64)
    total = float(weight.sum())
    if not total > 0:
        return Estimate(float("nan"), np.zeros(size), 0, 0)
    value = float(weight @ values[measured]) / total
    residual = weight * (values[measured] - value) / total
    influence = np.bincount(clusters[measured], weights=residual, minlength=size)
    carrying = len(np.unique(clusters[measured]))
    return Estimate(value, influence, int(measured.sum()), carrying)
