"""Figures of what one model did against another (docs/method.md, Evidence)."""

from dataclasses import dataclass

import numpy as np

from probing.analysis.decoding import Statistics, probability_of
from probing.analysis.deltas import delta
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.kinds import CODES
from probing.analysis.moments import top1_id
from probing.analysis.pair import Edge, Weighted, edge
from probing.analysis.progress import progress
from probing.analysis.reshaping import Basis, at_edge, basis, predicted_slope
from probing.vocabulary import Kind, PerPosition, PositionIds

LEAST_PREDICTED = 0.005
"""Changes of the top-1 probability that the target predicts below this have no sign to speak of."""

TILT = "trend, uncertain - certain"
"""How much more so a change goes with log-probability where the first model is uncertain."""

FIGURES = (
    "slope",
    "trend",
    TILT,
    "gap",
    "support at locks",
    "support at forks",
    "support, fork - lock",
    "within at locks",
    "within at forks",
    "entropy within S at locks",
    "entropy within S at forks",
    "entropy within S, fork - lock",
    "top-1, fork - lock",
    "sign of the top-1 change",
)
"""Names of what `evidence` tests, in order."""


@dataclass(frozen=True)
class Side:
    """One model's distributions, and their statistics under the kinds' decoding."""

    rows: Distributions
    stats: Statistics


@dataclass(frozen=True)
class Moved:
    """What model b did against model a, before it is asked at which kinds.

    Attributes:
        everywhere: figures that kinds have no part in: slope, trend, its tilt, gap, sign.
        support, within: progress towards the target made from a, nats; see `progress`. Support is
            NaN where nothing lies outside the target's support.
        entropy: change of the entropy of the renormalised S, nats.
        top1: change of the top-1 probability.
    """

    everywhere: dict[str, Estimate]
    support: PerPosition
    within: PerPosition
    entropy: PerPosition
    top1: PerPosition


def moved(
    a: Side, b: Side, target: Distributions, counted: Weighted, *, on: Basis | None = None
) -> Moved:
    """What b did against a.

    Args:
        a: the first model.
        b: the other, over the same candidates.
        target: of `target.ssd_target`, made from a.
        counted: what positions count.
        on: of `reshaping.basis`, which is the same for every b; None: it is made.
    """
    around = edge(a.rows, b.rows, target)
    on = basis(around, counted) if on is None else on
    way = progress(a.rows, b.rows, target)
    at = at_edge(around, on)
    everywhere = {
        "slope": predicted_slope(around, on).slope,
        "trend": at.trend,
        TILT: at.tilt,
        "gap": at.gap,
        "sign of the top-1 change": _mean(_agreement(a, b, around), counted.weights, counted),
    }
    # Where nothing lies outside the support, no mass can move in.
    truncated = around.near.any()
    return Moved(
        everywhere=everywhere,
        support=way.support if truncated else np.full_like(way.support, np.nan),
        within=way.within,
        entropy=delta(a.stats.entropy_kept_nats, b.stats.entropy_kept_nats),
        top1=delta(a.stats.top1_prob, b.stats.top1_prob),
    )


def figures(moves: Moved, *, kind: PositionIds, counted: Weighted) -> dict[str, Estimate]:
    """Every figure, in the order of `FIGURES`.

    Args:
        moves: of one model against another.
        kind: code of every position.
        counted: what positions count.
    """

    def lock_and_fork(values: PerPosition) -> tuple[Estimate, Estimate]:
        lock, fork = (
            _mean(values, np.where(kind == CODES[each], counted.weights, 0.0), counted)
            for each in (Kind.LOCK, Kind.FORK)
        )
        return lock, fork

    found = dict(moves.everywhere)
    for name, values in (
        ("support", moves.support),
        ("within", moves.within),
        ("entropy within S", moves.entropy),
        ("top-1", moves.top1),
    ):
        lock, fork = lock_and_fork(values)
        found |= {
            f"{name} at locks": lock,
            f"{name} at forks": fork,
            f"{name}, fork - lock": fork - lock,
        }
    return {name: found[name] for name in FIGURES}


def _mean(values: PerPosition, weights: PerPosition, counted: Weighted) -> Estimate:
    return mean_estimate(values, weights=weights, clusters=counted.clusters, size=counted.size)


def _agreement(a: Side, b: Side, around: Edge) -> PerPosition:
    """1 where the top-1 probability moved the way the target says, -1 where not, NaN if unsaid."""
    top = top1_id(a.rows)
    before, after = (probability_of(each.rows, top, temperature=1.0) for each in (a, b))
    aimed = np.where((around.ids == top[:, None]) & around.inside, around.q, 0.0).sum(axis=1)
    predicted = aimed - before
    agreement: PerPosition = np.sign(predicted) * np.sign(after - before)
    return np.where(np.abs(predicted) >= LEAST_PREDICTED, agreement, np.nan)
