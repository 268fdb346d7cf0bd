"""How far a delta lies beyond its role-exchange null, and what that allows to be said.

Source: docs/method.md, Tests in the tables; equivalence after Schuirmann (1987).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from probing.analysis.inference import ClusterTotals, PerColumn, Pivots, pivots
from probing.analysis.testing import detectable_effect, sign_flip_p_value
from probing.settings import Inference


@dataclass(frozen=True)
class Excess:
    """Delta less null of every column (method.md section 7); NaN where a side is not measured.

    Attributes:
        value: half of the delta less half of the one with the models' roles exchanged.
        low, high: its interval; NaN with fewer than two clusters.
        p_value: two-sided, of its being 0; NaN without an interval, and where every cluster adds 0.
        detectable: the smallest excess found with the power of the settings.
        inner_low, inner_high: its interval at twice the miss of the other, for equivalence.
    """

    value: PerColumn
    low: PerColumn
    high: PerColumn
    p_value: PerColumn
    detectable: PerColumn
    inner_low: PerColumn
    inner_high: PerColumn

    def within(self, margin: PerColumn) -> Bool[np.ndarray, " column"]:
        """Whether two one-sided tests (Schuirmann 1987) put it within +-margin; NaN is not."""
        inside: Bool[np.ndarray, " column"] = (self.inner_low > -margin) & (
            self.inner_high < margin
        )
        return inside


FACTORS = (0.5, -0.5)
"""Delta - (delta + exchanged delta) / 2: of the delta, and of the exchanged one."""


def excess(
    own: ClusterTotals,
    exchanged: ClusterTotals,
    *,
    settings: Inference,
    rng: np.random.Generator,
    of_deltas: Pivots | None = None,
) -> Excess:
    """Tests whether each delta is what exchanging the two models' roles makes of it.

    Delta and null come from the same problems, so their difference is drawn as one: both sides of a
    cluster together. p-values are those of the studentised bootstrap; where it is not used (few
    clusters, or nearly all alike) a cluster's roles are exchanged by flipping the sign of what it
    adds.

    Args:
        own: sums of other - baseline, positions chosen as they are.
        exchanged: of baseline - other, chosen in exchanged roles; the same clusters.
        settings: draws, level, few clusters, power.
        rng: draws clusters; a generator spawned from it, signs.
        of_deltas: the `pivots` of `own` alone, if they are known: where exchanging only changes the
            sign, the excess is the delta itself and is not drawn again.
    """
    # Signs of their own, so that they do not depend on whether clusters are drawn first.
    seed = int(rng.spawn(1)[0].integers(2**32))
    found = _pivots(own, exchanged, settings=settings, rng=rng, of_deltas=of_deltas)
    measured = np.isfinite(found.estimate)
    bounds = found.bounds(level=settings.level)
    # Two one-sided tests at 1 - level: the interval that misses that much on either side.
    inner = found.bounds(level=2 * settings.level - 1)
    p_values = found.p_values()
    for column in np.flatnonzero(measured & ~found.bootstrapped & (found.clusters >= 2)):
        p_values[column] = sign_flip_p_value(
            _contributions(own, exchanged, int(column)),
            draws=settings.draws,
            rng=np.random.default_rng(seed),
        )
    tested = measured & (found.clusters >= 2)
    detectable = detectable_effect(
        found.error, freedom=found.freedom, level=settings.level, power=settings.power
    )
    return Excess(
        value=found.estimate,
        low=bounds.low,
        high=bounds.high,
        p_value=p_values,
        detectable=np.where(tested, detectable, np.nan),
        inner_low=inner.low,
        inner_high=inner.high,
    )


def _pivots(
    own: ClusterTotals,
    exchanged: ClusterTotals,
    *,
    settings: Inference,
    rng: np.random.Generator,
    of_deltas: Pivots | None,
) -> Pivots:
    if of_deltas is not None and _antisymmetric(own, exchanged):
        return of_deltas
    return pivots([own, exchanged], factors=FACTORS, settings=settings, rng=rng)


def _antisymmetric(own: ClusterTotals, exchanged: ClusterTotals) -> bool:
    return np.array_equal(own.weight, exchanged.weight) and np.array_equal(
        own.value, -exchanged.value
    )


def _contributions(
    own: ClusterTotals, exchanged: ClusterTotals, column: int
) -> Float[np.ndarray, " cluster"]:
    """What each cluster adds to the excess of one column: with roles exchanged, as much less."""
    parts = [
        factor * side.value[:, column] / side.weight[:, column].sum()
        for factor, side in zip(FACTORS, (own, exchanged), strict=True)
    ]
    total: Float[np.ndarray, " cluster"] = parts[0] + parts[1]
    return total
