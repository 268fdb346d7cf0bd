"""How a model's changes go with what training was aimed at: slopes, the edge, single tokens.

Source: docs/method.md, Evidence; derived there, not from a paper.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from probing.analysis.estimates import Estimate
from probing.analysis.pair import Edge, Weighted
from probing.analysis.regression import Fit, fit, within_products
from probing.vocabulary import CandidateLogits

FLIPS = 1999
"""Draws of signs for the test of single tokens."""


def predicted_slope(edge: Edge, counted: Weighted) -> Fit:
    """Inside the support, log b - log a on log q - log a; tokens count by q.

    1 where the model came all the way to the target (up to a factor), 0 where nothing moved with
    it; NaN where T_train = 1, at which the target keeps the shape inside.
    """
    log_q = np.log(np.where(edge.inside, edge.q, 1.0))
    products = within_products(
        (log_q - edge.log_a)[:, :, None], edge.change, weights=np.where(edge.inside, edge.q, 0.0)
    )
    return fit(products, weights=counted.weights, clusters=counted.clusters, size=counted.size)


class AtEdge(NamedTuple):
    """See `at_edge`."""

    trend: Estimate
    gap: Estimate


def at_edge(edge: Edge, counted: Weighted) -> AtEdge:
    """Around the edge of the support, log b - log a on log a, its square, and on being outside.

    A change of temperature is a trend alone: 1/T - 1. Trained towards truncated samples, tokens
    outside lose more than the trend says: the gap, nats, is below 0. The square, about the mean
    log a of all these tokens, takes up what bends without a step, such as label smoothing.
    """
    outside = edge.near.astype(np.float64)
    products = within_products(
        np.stack([edge.log_a, outside, _bend(edge)], axis=2),
        edge.change,
        weights=edge.used.astype(np.float64),
    )
    found = fit(products, weights=counted.weights, clusters=counted.clusters, size=counted.size)
    return AtEdge(*found.coefficients[:2])


def _bend(edge: Edge) -> CandidateLogits:
    """The square of log a about its mean over the tokens around the edge."""
    centre = edge.log_a[edge.used].mean() if edge.used.any() else 0.0
    bend: CandidateLogits = (edge.log_a - centre) ** 2
    return bend


@dataclass(frozen=True)
class Consistency:
    """Whether single tokens move alike in every problem.

    Attributes:
        share: of the variance left by `at_edge` and smooth terms that a token's own shift tells,
            by products of different problems, so noise has 0 on average.
        p_value: one-sided, of its being 0, by flipping problems' signs.
        shift: the standard deviation of such shifts, nats; 0 where the share is below 0.
    """

    share: float
    p_value: float
    shift: float


def token_consistency(edge: Edge, counted: Weighted, rng: np.random.Generator) -> Consistency:
    """Shifts of single tokens that position, rank and probability do not tell."""
    residual = _smooth_residual(edge, counted)
    rows, places = np.nonzero(edge.used & (counted.weights > 0)[:, None])
    values, ids = residual[rows, places], edge.ids[rows, places]
    problems = counted.clusters[rows]
    tokens, column = np.unique(ids, return_inverse=True)
    shape = (counted.size, len(tokens))
    sums = sparse.coo_array((values, (problems, column)), shape=shape).tocsr()
    counts = sparse.coo_array((np.ones(len(values)), (problems, column)), shape=shape).tocsr()
    own = float((sums.data**2).sum())
    pairs = float((np.asarray(counts.sum(axis=0)) ** 2).sum() - (counts.data**2).sum())
    if not len(values) or not pairs > 0:
        return Consistency(float("nan"), float("nan"), float("nan"))
    found = float((np.asarray(sums.sum(axis=0)) ** 2).sum()) - own
    signs = 1.0 - 2.0 * rng.integers(0, 2, size=(FLIPS, counted.size))
    drawn = ((signs @ sums) ** 2).sum(axis=1) - own
    variance = found / pairs
    return Consistency(
        share=variance / float((values**2).mean()),
        p_value=float(1 + (drawn >= found).sum()) / (1 + FLIPS),
        shift=float(np.sqrt(max(variance, 0.0))),
    )


def _smooth_residual(edge: Edge, counted: Weighted) -> CandidateLogits:
    """What is left of the change, within positions, by probability, edge and leading."""
    outside = edge.near.astype(np.float64)
    leads = ((edge.rank == 1) & edge.used).astype(np.float64)
    x = np.stack([edge.log_a, _bend(edge), outside, outside * edge.log_a, leads, edge.q], axis=2)
    weights = edge.used.astype(np.float64)
    found = fit(
        within_products(x, edge.change, weights=weights),
        weights=counted.weights,
        clusters=counted.clusters,
        size=counted.size,
    )
    slopes = np.array([each.value for each in found.coefficients])
    if not np.isfinite(slopes).all():
        slopes = np.zeros(len(slopes))
    left = np.where(edge.used, edge.change - x @ slopes, 0.0)
    mean = left.sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    residual: CandidateLogits = np.where(edge.used, left - mean[:, None], 0.0)
    return residual
