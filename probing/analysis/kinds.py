"""Lock-like, fork-like, diffuse, mixed: one kind per distribution, by thresholds."""

import numpy as np
from jaxtyping import Int

from probing.analysis.decoding import Statistics
from probing.settings import KindRule
from probing.vocabulary import Assignment, Kind

CODES: dict[Kind, int] = {kind: code for code, kind in enumerate(Kind)}
"""A kind as a number: its place in `list(Kind)`."""


def kinds(stats: Statistics, *, rule: KindRule) -> Int[np.ndarray, " position"]:
    """The kind of each position's distribution, as int8 codes (method.md section 5).

    Positions whose `tail_mass` is not known are mixed, which is "the rest".

    Examples:
        >>> [kind.value for kind in Kind]
        ['lock-like', 'fork-like', 'diffuse', 'mixed']
    """
    leads = stats.top1_prob >= rule.lock_top1
    lock = leads & (stats.nucleus_size <= rule.lock_nucleus) & (stats.tail_mass <= rule.lock_tail)
    several = stats.close_tokens >= rule.fork_close_tokens
    fork = ~leads & several & (stats.tail_mass <= rule.fork_tail)
    diffuse = stats.tail_mass > rule.fork_tail
    codes = np.select(
        [lock, fork, diffuse],
        [CODES[Kind.LOCK], CODES[Kind.FORK], CODES[Kind.DIFFUSE]],
        default=CODES[Kind.MIXED],
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
