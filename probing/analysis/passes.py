"""Compiled passes over rows of candidates: what NumPy would take several readings of memory for.

Source: docs/method.md, Decoding. `moments` and `ranking` say what the figures mean.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from probing.analysis.distributions import Betas
from probing.analysis.elementary import (
    LOG2_E,
    LOWEST_BINARY_EXPONENT,
    compiled,
    exp2_double,
    inlined,
    part,
)
from probing.vocabulary import CandidateLogits, PerPosition, PositionIds, TailNodes


def tempered_rows(
    logits: CandidateLogits, reference: PerPosition, *, beta: float
) -> tuple[PerPosition, CandidateLogits, CandidateLogits]:
    """Each row relative to its largest logit, be it a candidate's or the tail's.

    Args:
        logits: float32; -inf where unused.
        reference: the tail's largest logit, float64; -inf without a tail.
        beta: 1/T.

    Returns:
        The largest logits; beta (logit - largest); and its exponential, 0 below 1e-307. float64.
    """
    top = np.empty(len(logits))
    scaled, weight = np.empty(logits.shape), np.empty(logits.shape)
    _tempered(np.ascontiguousarray(logits), reference, float(beta), top, scaled, weight)
    return top, scaled, weight


@compiled
def _tempered(logits, reference, beta, top, scaled, weight):
    for row in range(len(logits)):
        largest = max(largest_of(logits[row]), reference[row])
        top[row] = largest
        for j in range(logits.shape[1]):
            scaled[row, j] = beta * (np.float64(logits[row, j]) - largest)
        for j in range(logits.shape[1]):
            weight[row, j] = power_of(scaled[row, j])


def cumulative_rows(weight: CandidateLogits) -> CandidateLogits:
    """Sums of the weights up to and including each place."""
    found = np.empty(weight.shape)
    _cumulative(weight, found)
    return found


@compiled
def _cumulative(weight, found):
    for row in range(len(weight)):
        total = 0.0
        for j in range(weight.shape[1]):
            total += weight[row, j]
            found[row, j] = total


def mean_rows(weight: CandidateLogits, values: CandidateLogits, *, lowest: float) -> PerPosition:
    """The sum of weight times value over each row; values below `lowest` count as `lowest`."""
    found = np.empty(len(weight))
    _summed(weight, values, lowest, found)
    return found


@compiled
def _summed(weight, values, lowest, found):
    for row in range(len(weight)):
        total = 0.0
        for j in range(weight.shape[1]):
            total += weight[row, j] * max(values[row, j], lowest)
        found[row] = total


def square_rows(
    weight: CandidateLogits, values: CandidateLogits, mean: PerPosition, *, lowest: float
) -> PerPosition:
    """The sum of weight times (value - the row's mean) squared; as `mean_rows`."""
    found = np.empty(len(weight))
    _squared(weight, values, mean, lowest, found)
    return found


@compiled
def _squared(weight, values, mean, lowest, found):
    for row in range(len(weight)):
        total = 0.0
        for j in range(weight.shape[1]):
            away = max(values[row, j], lowest) - mean[row]
            total += weight[row, j] * away * away
        found[row] = total


def tail_rows(
    nodes: tuple[TailNodes, TailNodes, TailNodes], betas: Betas, weights: Sequence[Betas]
) -> tuple[PerPosition, PerPosition, PerPosition]:
    """Log mass, mean and square of tails between their nodes; see `tail.at_temperature`.

    Args:
        nodes: log mass, mean and square at the nodes.
        betas: of the nodes.
        weights: those of `tail.InterpolationWeights`.
    """
    found = np.empty((3, len(nodes[0])))
    _tails(*(_by_node(each) for each in nodes), betas, *weights, found)
    log_mass, mean, square = found
    return log_mass, mean, square


def steadied_rows(
    values: TailNodes, means: TailNodes, mean: PerPosition, weights: Betas
) -> PerPosition:
    """A moment whose slope is not stored, between the nodes; see `tail.cross_mean_at`.

    Args:
        values: the moment at the nodes.
        means: the tail's own mean at the nodes.
        mean: the tail's own mean in between.
        weights: of the nodes, without slopes.
    """
    found = np.empty(len(values))
    _all_steadied(_by_node(values), _by_node(means), mean, weights, found)
    return found


def _by_node(nodes: TailNodes) -> Float[np.ndarray, "beta position"]:
    """As chunks hold them: positions side by side."""
    return np.ascontiguousarray(nodes.T, dtype=np.float64)


@compiled
def _tails(log_mass, mean, square, betas, value, osculating, slope, found):
    for row in range(found.shape[1]):
        found[0, row] = 0.0
        found[1, row] = 0.0
    for node in range(len(betas)):
        for row in range(found.shape[1]):
            middle = mean[node, row]
            variance = max(square[node, row] - middle * middle, 0.0)
            steep = betas[node] * slope[node]
            found[0, row] += log_mass[node, row] * osculating[node] + middle * steep
            found[1, row] += middle * osculating[node] + variance * steep
    for row in range(found.shape[1]):
        # No logit exceeds the reference, nor can their mean.
        found[1, row] = min(found[1, row], 0.0)
    _steady(square, mean, found[1], value, found[2])
    for row in range(found.shape[1]):
        found[2, row] = max(found[2, row], found[1, row] * found[1, row])


@compiled
def _all_steadied(values, means, mean, weights, found):
    _steady(values, means, mean, weights, found)


@part
def _steady(values, means, mean, weights, found):
    """The part that is linear in the tail's own mean follows it, the rest the polynomial."""
    centre, spread, shared = np.zeros(len(found)), np.zeros(len(found)), np.zeros(len(found))
    found[:] = 0.0
    linear = np.zeros(len(found))
    for node in range(len(weights)):
        for row in range(len(found)):
            centre[row] += means[node, row]
            linear[row] += means[node, row] * weights[node]
            found[row] += values[node, row] * weights[node]
    for node in range(len(weights)):
        for row in range(len(found)):
            away = means[node, row] - centre[row] / len(weights)
            spread[row] += away * away
            shared[row] += away * values[node, row]
    for row in range(len(found)):
        if spread[row] > 0:
            found[row] += shared[row] / spread[row] * (mean[row] - linear[row])


def sums_by(group: PositionIds, values: PerPosition, *, groups: int) -> Float[np.ndarray, " group"]:
    """The sum of the values of each group 0 … groups - 1, added in their order."""
    if len(group) != len(values):
        raise ValueError(f"group and values must be as many, got {len(group)} and {len(values)}")
    found = np.zeros(groups)
    _added(np.ascontiguousarray(group), np.ascontiguousarray(values, dtype=np.float64), found)
    return found


@compiled
def _added(group, values, found):
    for row in range(len(group)):
        found[group[row]] += values[row]


class TailedRows(NamedTuple):
    """Rows of candidates and what lies outside them, at one temperature.

    Attributes:
        logits: float32; -inf where unused.
        reference: the tail's largest logit, float64; -inf without a tail.
        log_mass, mean, square: of the tail, see `tail.TailAt`.
        beta: 1/T.
    """

    logits: CandidateLogits
    reference: PerPosition
    log_mass: PerPosition
    mean: PerPosition
    square: PerPosition
    beta: float


def kl_rows(a: TailedRows, b: TailedRows, cross: PerPosition) -> PerPosition:
    """KL(a || b), nats; see `moments.kl_nats`. `cross`: mean of b's logits over a's tail."""
    found = np.empty(len(a.logits))
    _kl(a, b, cross, found)
    return found


@compiled
def _kl(a, b, cross, found):
    for row in range(len(found)):
        top_a = max(largest_of(a.logits[row]), a.reference[row])
        top_b = max(largest_of(b.logits[row]), b.reference[row])
        total_a, total_b, gap = 0.0, 0.0, 0.0
        for j in range(a.logits.shape[1]):
            scaled_a = a.beta * (np.float64(a.logits[row, j]) - top_a)
            scaled_b = b.beta * (np.float64(b.logits[row, j]) - top_b)
            weight = power_of(scaled_a)
            total_a += weight
            total_b += power_of(scaled_b)
            gap += weight * (scaled_a - scaled_b) if weight > 0 else 0.0
        tail_a = a.beta * (a.reference[row] - top_a)
        tail_b = b.beta * (b.reference[row] - top_b)
        outside = math.exp(tail_a + a.log_mass[row])
        if outside > 0:
            gap += outside * (tail_a + a.beta * a.mean[row] - tail_b - b.beta * cross[row])
        total_a += outside
        total_b += math.exp(tail_b + b.log_mass[row])
        found[row] = max(gap / total_a + math.log(total_b) - math.log(total_a), 0.0)


@inlined
def power_of(scaled):
    """The exponential of something <= 0; 0 below 1e-307."""
    power = scaled * LOG2_E
    found = exp2_double(max(power, LOWEST_BINARY_EXPONENT))
    return found if power > LOWEST_BINARY_EXPONENT else 0.0


@part
def largest_of(logits):
    """The largest of a row, float64."""
    largest = np.float32(-np.inf)
    for j in range(len(logits)):
        largest = max(largest, logits[j])
    return np.float64(largest)
