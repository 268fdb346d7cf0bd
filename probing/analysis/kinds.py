"""Lock-like, fork-like, diffuse, mixed: exactly one per distribution."""

import numpy as np
from jaxtyping import Int

from probing.analysis.decoding import Statistics
from probing.settings import KindRule
from probing.vocabulary import Assignment, Kind

KINDS = tuple(Kind)
"""Kinds by code: what `kinds` returns indexes this."""


def kinds(stats: Statistics, *, rule: KindRule) -> Int[np.ndarray, " position"]:
    """Code of each position's kind, int8, in the order of method.md section 5."""
    lock = (
        (stats.top1_prob >= rule.lock_top1)
        & (stats.nucleus_size <= rule.lock_nucleus)
        & (stats.tail_mass <= rule.lock_tail)
    )
    fork = (
        (stats.top1_prob < rule.lock_top1)
        & (stats.close_tokens >= rule.fork_close_tokens)
        & (stats.tail_mass <= rule.fork_tail)
    )
    diffuse = stats.tail_mass > rule.fork_tail
    codes = np.select(
        [lock, fork, diffuse],
        [KINDS.index(Kind.LOCK), KINDS.index(Kind.FORK), KINDS.index(Kind.DIFFUSE)],
        default=KINDS.index(Kind.MIXED),
    )
    return codes.astype(np.int8)


def assigned_kinds(
    baseline: Statistics,
    other: Statistics,
    mean: Statistics,
    *,
    assignment: Assignment,
    rule: KindRule,
) -> Int[np.ndarray, " position"]:
    """Kinds by the distribution that the assignment names."""
    chosen = {Assignment.BASELINE: baseline, Assignment.OTHER: other, Assignment.MEAN: mean}
    return kinds(chosen[assignment], rule=rule)
