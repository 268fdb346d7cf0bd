"""Lock-like, fork-like, diffuse, mixed: one kind per distribution, by thresholds.

Source: docs/method.md, Kinds.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from probing.analysis.decoding import Statistics
from probing.settings import KindRule
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds

CODES: dict[Kind, int] = {kind: code for code, kind in enumerate(Kind)}
"""A kind as a number: its place in `list(Kind)`."""


def kinds(stats: Statistics, *, rule: KindRule) -> Int[np.ndarray, " position"]:
    """The kind of each position's distribution, as int8 codes (method.md section 5).

    Positions whose `tail_mass` is not known are mixed, which is "the rest".

    Raises:
        ValueError: the rule wants forks by entropy and has no cut; see `with_entropy_cut`.

    Examples:
        >>> [kind.value for kind in Kind]
        ['lock-like', 'fork-like', 'diffuse', 'mixed']
    """
    leads = stats.top1_prob >= rule.lock_top1
    lock = leads & (stats.nucleus_size <= rule.lock_nucleus) & (stats.tail_mass <= rule.lock_tail)
    several = stats.close_tokens >= rule.fork_close_tokens
    fork = ~leads & several & (stats.tail_mass <= rule.fork_tail)
    if rule.fork_entropy_share > 0:
        if rule.fork_entropy is None:
            raise ValueError("forks by entropy need a cut: take it with `with_entropy_cut`")
        fork = stats.entropy_nats >= rule.fork_entropy
    diffuse = stats.tail_mass > rule.fork_tail
    codes = np.select(
        [lock, fork, diffuse],
        [CODES[Kind.LOCK], CODES[Kind.FORK], CODES[Kind.DIFFUSE]],
        default=CODES[Kind.MIXED],
    )
    return codes.astype(np.int8)


@dataclass(frozen=True)
class KindCodes:
    """Kind codes of every position by each distribution that can decide."""

    mean: PositionIds
    baseline: PositionIds
    other: PositionIds

    def by(self, assignment: Assignment) -> PositionIds:
        """The codes by one assignment."""
        codes: PositionIds = getattr(self, assignment.value)
        return codes

    def exchanged(self) -> "KindCodes":
        """With baseline and other in each other's place."""
        return KindCodes(mean=self.mean, baseline=self.other, other=self.baseline)


def with_entropy_cut(
    rule: KindRule, *, entropy_nats: PerPosition, weights: PerPosition
) -> KindRule:
    """The rule with its cut, where it wants forks by entropy and has none; else as it is.

    The same cut then serves every model: the least entropy of the baseline's most uncertain
    positions, which hold `fork_entropy_share` of all weight.

    Args:
        rule: thresholds.
        entropy_nats: of the baseline, at the kinds' decoding, of every position of the run.
        weights: of positions; those of no weight do not count.
    """
    if rule.fork_entropy_share == 0 or rule.fork_entropy is not None:
        return rule
    counted = np.flatnonzero((weights > 0) & np.isfinite(entropy_nats))
    if not len(counted):
        return replace(rule, fork_entropy=float("inf"))
    order = counted[np.argsort(-entropy_nats[counted], kind="stable")]
    held = np.cumsum(weights[order])
    last = int(np.searchsorted(held, rule.fork_entropy_share * held[-1] * (1 - 1e-12)))
    return replace(rule, fork_entropy=float(entropy_nats[order[last]]))


def assigned_kinds(
    baseline: Statistics,
    other: Statistics,
    mean: Statistics,
    *,
    assignment: Assignment,
    rule: KindRule,
) -> Int[np.ndarray, " position"]:
    """The kind of each position, by whose distribution the assignment names.

    Args:
        baseline: Statistics of the baseline at the kind's decoding.
        other: Of the other model.
        mean: Of the mean of their logits.
        assignment: Which of the three decides.
        rule: Thresholds.
    """
    deciding = {
        Assignment.BASELINE: baseline,
        Assignment.OTHER: other,
        Assignment.MEAN: mean,
    }
    return kinds(deciding[assignment], rule=rule)
