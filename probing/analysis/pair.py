"""Two models at the same positions, and the tokens around the edge of what training kept.

Source: docs/method.md, The SSD target and Evidence.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from probing.analysis.decoding import own_ranks
from probing.analysis.distributions import Distributions
from probing.analysis.progress import in_support, log_probabilities, probabilities
from probing.vocabulary import CandidateIds, CandidateLogits, PerPosition, PositionIds, TailNodes

NEAR = 10
"""Ranks below the edge of the support that are looked at."""


@dataclass(frozen=True)
class PairRows:
    """Baseline and other at the same positions and candidates, and the mean of their logits.

    Attributes:
        baseline, other, mean: distributions.
        other_over_baseline: over the baseline's tempered tail, the mean of the other's logits
            (relative to the other's own reference), at the nodes of the tail grid.
        baseline_over_other: the reverse.
    """

    baseline: Distributions
    other: Distributions
    mean: Distributions
    other_over_baseline: TailNodes
    baseline_over_other: TailNodes

    def exchanged(self) -> "PairRows":
        """The two models in each other's place."""
        return PairRows(
            baseline=self.other,
            other=self.baseline,
            mean=self.mean,
            other_over_baseline=self.baseline_over_other,
            baseline_over_other=self.other_over_baseline,
        )


@dataclass(frozen=True)
class Edge:
    """Tokens in the support S of the SSD target, and those just below its edge: no others.

    Rows are as wide as the most such tokens of one position; places past a row's own are unused.

    Attributes:
        ids: of the tokens; of an unused place any.
        log_a: of the first model, T = 1, nats.
        change: log b - log a, nats.
        q: the target, made from the first model; 0 outside S.
        inside: in S.
        near: outside S, among the next `NEAR` ranks of the first model.
        rank: of the first model; 0 = beyond what is exact.
    """

    ids: CandidateIds
    log_a: CandidateLogits
    change: CandidateLogits
    q: CandidateLogits
    inside: Bool[np.ndarray, "position candidate"]
    near: Bool[np.ndarray, "position candidate"]
    rank: np.ndarray

    @property
    def used(self) -> Bool[np.ndarray, "position candidate"]:
        """Inside, or near the edge."""
        used: Bool[np.ndarray, "position candidate"] = self.inside | self.near
        return used


def edge(a: Distributions, b: Distributions, target: Distributions) -> Edge:
    """The tokens around the edge of what sampling from `a` keeps.

    Args:
        a: whose support it is.
        b: the other model.
        target: of `target.ssd_target`, made from `a`.
    """
    inside, rank = in_support(target), own_ranks(a)
    last = inside.sum(axis=1, keepdims=True) + NEAR
    log_a, log_b = log_probabilities(a), log_probabilities(b)
    known = np.isfinite(log_a) & np.isfinite(log_b)
    change = np.zeros_like(log_a)
    np.subtract(log_b, log_a, out=change, where=known)
    inside &= known
    near = ~inside & known & (rank > 0) & (rank <= last)
    used = inside | near
    places = np.argsort(~used, axis=1, kind="stable")[:, : int(used.sum(axis=1).max(initial=0))]

    def of_used(values: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, places, axis=1)

    return Edge(
        ids=of_used(a.ids),
        log_a=of_used(np.where(known, log_a, 0.0)),
        change=of_used(change),
        q=of_used(probabilities(target)),
        inside=of_used(inside),
        near=of_used(near),
        rank=of_used(rank),
    )


@dataclass(frozen=True)
class Weighted:
    """What positions count, and which problem each belongs to.

    Attributes:
        weights: of positions, >= 0.
        clusters: problem of each, 0 ... size - 1.
        size: how many problems.
    """

    weights: PerPosition
    clusters: PositionIds
    size: int
