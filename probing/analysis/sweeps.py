"""A threshold of the kinds moved over values: shares of kinds, and deltas beside their null.

Source: docs/method.md, Sweeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.kinds import CODES, KindCodes
from probing.analysis.nulls import BesideNull, beside_null
from probing.analysis.pair import Weighted
from probing.settings import THRESHOLDS, KindRule, require
from probing.vocabulary import Assignment, Kind, PerPosition

UNUSED_BY_ENTROPY = ("close_ratio", "close_among", "fork_close_tokens")
"""Thresholds that no longer matter once forks are taken by entropy."""


def swept_rules(rule: KindRule, *, threshold: str, values: Sequence[float | int]) -> list[KindRule]:
    """The rule with one threshold at each of the values, everything else as it is.

    Args:
        rule: the other thresholds.
        threshold: a name of `settings.THRESHOLDS`.
        values: at least one, without repeats.

    Raises:
        UsageFault: no such threshold, a value that it cannot have, a value twice, none at all, or a
            threshold that the rule does not look at.
    """
    require(threshold in THRESHOLDS, f"threshold must be one of {', '.join(THRESHOLDS)}", threshold)
    require(bool(values), "a sweep needs at least one value", list(values))
    require(len({*values}) == len(values), "values of a sweep must differ", list(values))
    require(
        rule.fork_entropy_share == 0 or threshold not in UNUSED_BY_ENTROPY,
        f"preset {rule.preset} takes forks by entropy and does not look at "
        f"{', '.join(UNUSED_BY_ENTROPY)}; sweep fork_entropy_share, or take another preset",
        threshold,
    )
    allowed = THRESHOLDS[threshold]
    for value in values:
        require(allowed.allows(value), f"{threshold} must be {allowed.text}", value)
    whole = int if allowed.whole else float
    # A cut that was taken for another share would no longer fit.
    return [
        replace(rule, fork_entropy=None, **{threshold: whole(value)})  # type: ignore[arg-type]
        for value in values
    ]


@dataclass(frozen=True)
class AtKind:
    """One kind under one value of a threshold.

    Attributes:
        share: of all weight.
        positions, problems: how many are of this kind and count.
        deltas: by quantity, beside the role-exchange null.
    """

    share: Estimate
    positions: int
    problems: int
    deltas: dict[str, BesideNull]


def at_kinds(
    codes: KindCodes,
    *,
    deltas: Mapping[str, PerPosition],
    assignment: Assignment,
    counted: Weighted,
) -> dict[Kind, AtKind]:
    """Every kind, also those without a position.

    Args:
        codes: kinds under one value.
        deltas: other - baseline of every position, by quantity; of quantities that treat the
            models alike.
        assignment: whose kind counts.
        counted: what positions count.
    """
    exchanged = codes.exchanged().by(assignment)
    found = {}
    for kind in Kind:
        inside = codes.by(assignment) == CODES[kind]
        weights = np.where(inside, counted.weights, 0.0)
        mirror = np.where(exchanged == CODES[kind], counted.weights, 0.0)
        found[kind] = AtKind(
            share=mean_estimate(
                inside.astype(np.float64),
                weights=counted.weights,
                clusters=counted.clusters,
                size=counted.size,
            ),
            positions=int((weights > 0).sum()),
            problems=len(np.unique(counted.clusters[weights > 0])),
            deltas={
                name: beside_null(
                    delta,
                    weights=weights,
                    exchanged_weights=mirror,
                    clusters=counted.clusters,
                    size=counted.size,
                )
                for name, delta in deltas.items()
            },
        )
    return found
