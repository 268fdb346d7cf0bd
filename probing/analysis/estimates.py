"""Estimates that can be subtracted from each other: values with what each problem adds to them.

Source: docs/method.md, Intervals and Evidence: ratio estimates linearised over clusters
(Woodruff, 1971), errors with G / (G - 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats as scipy_stats

from probing.analysis.testing import detectable_effect
from probing.vocabulary import PerPosition, PositionIds

LEAST_FREEDOM = 0.1
"""Degrees of freedom below this are not told apart."""


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
        least_effective: the same, of the effective number of clusters: as many alike as would know
            it as well. It gives the degrees of freedom; None where that is `clusters`.
    """

    value: float
    influence: Float[np.ndarray, " cluster"]
    positions: int
    least_clusters: int | None = None
    least_effective: float | None = None

    @property
    def clusters(self) -> int:
        """How many clusters carry it."""
        if self.least_clusters is not None:
            return self.least_clusters
        return int((self.influence != 0).sum())

    @property
    def effective(self) -> float:
        """The effective number of clusters, G below."""
        return float(self.clusters) if self.least_effective is None else self.least_effective

    @property
    def error(self) -> float:
        """Standard error over clusters, G / (G - 1) times; NaN with fewer than two."""
        if self.clusters < 2 or not self.effective > 1:
            return float("nan")
        correction = self.effective / (self.effective - 1)
        return float(np.sqrt(correction * (self.influence**2).sum()))

    @property
    def _freedom(self) -> float:
        return max(self.effective - 1, LEAST_FREEDOM)

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
        return combined(
            self.value - other.value, self.influence - other.influence, parts=[self, other]
        )


def average(estimates: Sequence[Estimate]) -> Estimate:
    """Their plain mean: of an estimate and the one in exchanged roles, or of draws of one null."""
    return combined(
        float(np.mean([each.value for each in estimates])),
        np.mean([each.influence for each in estimates], axis=0),
        parts=estimates,
    )


def combined(
    value: float, influence: Float[np.ndarray, " cluster"], *, parts: Sequence[Estimate]
) -> Estimate:
    """A figure made of others: no better known than the part that rests on the fewest clusters.

    A part without any, such as a null that is 0 by symmetry, has no error to speak of.
    """
    carried = [each for each in parts if each.clusters]
    return Estimate(
        value,
        influence,
        min(each.positions for each in parts),
        min((each.clusters for each in carried), default=0),
        min((each.effective for each in carried), default=0.0),
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
