"""How a model's changes go with what training was aimed at: slopes, the edge, single tokens.

Source: docs/method.md, Evidence; derived there, not from a paper.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from probing.analysis.estimates import Estimate
from probing.analysis.pair import Edge, Weighted
from probing.analysis.regression import Beside, Codes, Fit, Regressor, Values, fit, regressor
from probing.analysis.testing import EXACT_FLIPS, all_signs
from probing.vocabulary import PerPosition

FLIPS = 1999
"""Draws of signs for the test of single tokens, where there are too many to try them all."""

LEAST_RESHAPING = 0.02
"""The least |1 / T_train - 1| at which the slope is told: below, the target keeps the shape."""

CLASSES = np.arange(-15.0, 0.0, 0.5)
"""Where classes of log-probability part, nats: tokens are compared with those of their class."""

UNCERTAIN = 0.7
"""Entropy, nats, from which on a position is uncertain: that of a token of 0.5 and its rivals."""

CERTAINTIES = np.array([0.3, UNCERTAIN, 1.2, 2.0])
"""Where classes of positions part, by the entropy of the tokens around the edge, nats."""


@dataclass(frozen=True)
class Basis:
    """What changes are regressed on, made once for all models that are held against the same one.

    Attributes:
        inside, around: which tokens of `Edge` the slope, and trend and gap, are about.
        slope: log q - log a, inside; tokens count by q.
        trend: log a, beside being outside.
        tilt: log a where the position is `UNCERTAIN`, beside log a and being outside in both parts.
        gap: being outside, beside log a at every position, its square, its class (`CLASSES`) among
            positions as certain (`CERTAINTIES`), and the token itself.
    """

    inside: tuple[np.ndarray, ...]
    around: tuple[np.ndarray, ...]
    slope: Regressor
    trend: Regressor
    tilt: Regressor
    gap: Regressor


def basis(edge: Edge, counted: Weighted) -> Basis:
    """Regressors of the slope, the trend, its tilt and the gap.

    The slope has none where T_train is near 1, at which the target keeps the shape inside.

    The gap compares a token outside with itself at positions where it is inside, at the same
    probability and where the model is as certain. Neither what befalls all tokens of some
    probability, however it bends or steps, nor what befalls some tokens everywhere, nor a
    temperature that differs from position to position is a gap.
    """
    inside, around = np.nonzero(edge.inside & (edge.q > 0)), np.nonzero(edge.used)
    outside, log_a = edge.near[around].astype(np.float64), edge.log_a[around]
    uncertain = (_entropy(edge)[around[0]] >= UNCERTAIN).astype(np.float64)

    def alike(
        effects: list[Codes], regressors: list[Values], *, in_position: list[Values] | None = None
    ) -> Beside:
        ones = np.ones(len(log_a))
        return Beside(
            effects,
            regressors,
            in_position=in_position or [],
            weights=ones,
            positions=around[0],
            counted=counted,
        )

    return Basis(
        inside,
        around,
        slope=_aimed(edge, counted, inside),
        trend=regressor(alike([], [outside]), log_a),
        tilt=regressor(alike([], [log_a, outside, outside * uncertain]), log_a * uncertain),
        gap=regressor(
            alike([edge.ids[around], _classes(edge, around)], [log_a**2], in_position=[log_a]),
            outside,
        ),
    )


def _aimed(edge: Edge, counted: Weighted, inside: tuple[Codes, ...]) -> Regressor:
    """What the target aims at inside: (1 / T_train - 1) log a, up to a constant."""
    log_a, q = edge.log_a[inside], edge.q[inside]
    aimed = np.log(q) - log_a
    alone = Beside([], [], weights=q, positions=inside[0], counted=counted)
    reach, shape = (float((alone.left(each) ** 2).sum()) for each in (aimed, log_a))
    if reach < LEAST_RESHAPING**2 * shape:
        aimed = np.zeros_like(aimed)
    beside = Beside([edge.ids[inside]], [], weights=q, positions=inside[0], counted=counted)
    return regressor(beside, aimed)


def _classes(edge: Edge, chosen: tuple[Codes, ...]) -> Codes:
    """Which class each token belongs to: of `CLASSES`, among positions of like `CERTAINTIES`."""
    certain = np.searchsorted(CERTAINTIES, _entropy(edge))[chosen[0]]
    classes: Codes = np.searchsorted(CLASSES, edge.log_a[chosen]) * (len(CERTAINTIES) + 1) + certain
    return classes


def _entropy(edge: Edge) -> PerPosition:
    """Of the tokens around the edge, nats: the model's own but for what its tail adds."""
    terms = np.where(edge.used, -np.exp(edge.log_a) * edge.log_a, 0.0)
    entropy: PerPosition = terms.sum(axis=1)
    return entropy


def predicted_slope(edge: Edge, on: Basis) -> Fit:
    """Inside the support, log b - log a on log q - log a, beside every token's own shift.

    1 where the model came all the way to the target (up to a factor), 0 where nothing moved with
    it; NaN where T_train is near 1.
    """
    return fit(on.slope, edge.change[on.inside])


class AtEdge(NamedTuple):
    """See `at_edge`."""

    trend: Estimate
    tilt: Estimate
    gap: Estimate


def at_edge(edge: Edge, on: Basis) -> AtEdge:
    """Around the edge of the support, how log b - log a goes with log a and with being outside.

    *Trend*: on log a; a change of temperature gives 1/T - 1. *Tilt*: by how much more so where the
    model is uncertain; one temperature for all gives 0. *Gap*, nats: on being outside. Trained
    towards truncated samples, tokens outside lose more than where they are inside and as likely: it
    is below 0.
    """
    change = edge.change[on.around]
    return AtEdge(*(fit(each, change).slope for each in (on.trend, on.tilt, on.gap)))


@dataclass(frozen=True)
class Consistency:
    """Whether single tokens move alike in every problem.

    Attributes:
        share: of the variance left by probability, edge and leading that a token's own shift tells,
            by products of different problems, so noise has 0 on average.
        p_value: one-sided, of its being 0, by flipping problems' signs.
        shift: the standard deviation of what is left of such shifts, nats; 0 where the share is
            below 0.
        least_p_value: what the p-value would be of problems that all agree.
    """

    share: float
    p_value: float
    shift: float
    least_p_value: float


def token_consistency(edge: Edge, counted: Weighted, rng: np.random.Generator) -> Consistency:
    """Shifts of single tokens that position, rank and probability do not tell."""
    chosen = np.nonzero(edge.used & (counted.weights > 0)[:, None])
    values, ids = _residual(edge, counted, chosen), edge.ids[chosen]
    problems = counted.clusters[chosen[0]]
    tokens, column = np.unique(ids, return_inverse=True)
    shape = (counted.size, len(tokens))
    sums = sparse.coo_array((values, (problems, column)), shape=shape).tocsr()
    counts = sparse.coo_array((np.ones(len(values)), (problems, column)), shape=shape).tocsr()
    own = float((sums.data**2).sum())
    pairs = float((np.asarray(counts.sum(axis=0)) ** 2).sum() - (counts.data**2).sum())
    if not len(values) or not pairs > 0:
        return Consistency(float("nan"), float("nan"), float("nan"), 1.0)
    variance = (float((np.asarray(sums.sum(axis=0)) ** 2).sum()) - own) / pairs
    total = float((values**2).mean())
    if not total > 0:
        return Consistency(0.0, float("nan"), 0.0, 1.0)
    p_value, least = _sign_test(sums.tocsr()[np.unique(problems)], rng)
    return Consistency(
        share=variance / total,
        p_value=p_value,
        shift=float(np.sqrt(max(variance, 0.0))),
        least_p_value=least,
    )


def _sign_test(sums: sparse.csr_array, rng: np.random.Generator) -> tuple[float, float]:
    """One-sided p-value of the squares of sums over problems, and the least that it could be.

    Turning all signs gives the same squares, so no p-value is below 2 in the number of signs.

    Args:
        sums: (problem, token), of the problems that hold any.
        rng: draws signs, where there are too many to try them all.
    """
    problems = sums.shape[0]
    exact = problems <= EXACT_FLIPS
    signs = all_signs(problems) if exact else 1.0 - 2.0 * rng.integers(0, 2, (FLIPS, problems))
    drawn = ((signs @ sums) ** 2).sum(axis=1)
    found = float((np.asarray(sums.sum(axis=0)) ** 2).sum())
    as_large = int((drawn >= found * (1 - 1e-12)).sum())
    if exact:
        return as_large / len(signs), min(1.0, 2.0 / len(signs))
    return (1 + as_large) / (1 + FLIPS), 1 / (1 + FLIPS)


def _residual(edge: Edge, counted: Weighted, chosen: tuple[Codes, ...]) -> Values:
    """What is left of the change by probability, edge and leading, none of which is a token's own.

    As for the gap, log a has a slope of every position's own: a temperature that differs from one
    to another is no shift of tokens.
    """
    log_a, outside = edge.log_a[chosen], edge.near[chosen].astype(np.float64)
    leads = (edge.rank[chosen] == 1).astype(np.float64)
    beside = Beside(
        [_classes(edge, chosen)],
        [log_a**2, outside, outside * log_a, leads, edge.q[chosen]],
        in_position=[log_a],
        weights=np.ones(len(log_a)),
        positions=chosen[0],
        counted=counted,
    )
    left: Values = beside.left(edge.change[chosen]) / beside.root
    return left
