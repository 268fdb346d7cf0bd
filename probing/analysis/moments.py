"""Log-partition, entropy, varentropy and divergence of whole distributions, at any temperature.

Source: docs/method.md, What is stored.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from probing.analysis.distributions import Distributions, Tail
from probing.analysis.passes import (
    TailedRows,
    kl_rows,
    mean_rows,
    square_rows,
    tempered_rows,
)
from probing.analysis.tail import TailAt, at_temperature, cross_mean_at
from probing.settings import GREEDY_BELOW
from probing.vocabulary import PADDING_ID, CandidateLogits, PerPosition, PositionIds, TailNodes

LOWEST = -1e4
"""Stands for -inf where it is multiplied with a weight that is exactly 0."""


def top1_id(rows: Distributions) -> PositionIds:
    """The id of the largest logit, the lowest of tied ids.

    `PADDING_ID` where the largest logit lies outside the candidates (only under a mean).
    """
    place = rows.logits.argmax(axis=1)[:, None]
    largest = np.take_along_axis(rows.logits, place, axis=1)
    found = np.take_along_axis(rows.ids, place, axis=1)[:, 0]
    # Unused places hold -inf and cannot tie with a row's largest logit.
    tied = rows.logits == largest
    several = tied.sum(axis=1) > 1
    among = np.where(tied[several], rows.ids[several], np.iinfo(rows.ids.dtype).max)
    found[several] = among.min(axis=1)
    known = largest[:, 0] >= rows.tail.reference
    ids: PositionIds = np.where(known, found, PADDING_ID)
    return ids


class Settled(NamedTuple):
    """Rows and a temperature that is not greedy; see `settle`."""

    rows: Distributions
    temperature: float


def settle(rows: Distributions, *, temperature: float) -> Settled:
    """Turn greedy into what it is: only the top token is left, read at temperature 1.

    Where the top token lies outside the candidates, a tail of that one token is left.
    """
    if temperature >= GREEDY_BELOW:
        return Settled(rows, temperature)
    top = top1_id(rows)
    known = top != PADDING_ID
    is_top = (rows.ids == top[:, None]) & known[:, None]
    nothing = np.zeros_like(rows.tail.log_mass)
    tail = Tail(
        reference=np.where(known, np.float32(-np.inf), rows.tail.reference),
        log_mass=nothing,
        mean=nothing,
        square=nothing,
    )
    left = np.where(is_top, rows.logits, np.float32(-np.inf))
    return Settled(replace(rows, logits=left, tail=tail), 1.0)


@dataclass(frozen=True)
class Tempered:
    """Rows at one temperature, relative to each row's largest logit; float64.

    Attributes:
        beta: 1/T.
        top: the row's largest logit, of a candidate or of the tail.
        scaled: beta (logit - top) of every candidate, <= 0; -inf where unused.
        weight: exp(scaled).
        tail_scaled: beta (reference - top); -inf without a tail.
        tail_weight: the tail's share of `total`.
        total: all weights; the probability of a candidate is weight / total.
        tail: moments of the tail at this temperature.
    """

    beta: float
    top: PerPosition
    scaled: CandidateLogits
    weight: CandidateLogits
    tail_scaled: PerPosition
    tail_weight: PerPosition
    total: PerPosition
    tail: TailAt


def temper(rows: Distributions, *, temperature: float) -> Tempered:
    """Divide by T, greedy included, and normalise over the whole vocabulary.

    Raises:
        OutsideContract: some row has a tail and T lies outside the grid's range.
    """
    rows, temperature = settle(rows, temperature=temperature)
    beta = 1 / temperature
    tail = at_temperature(rows.tail, rows.betas, temperature=temperature)
    reference = rows.tail.reference.astype(np.float64)
    top, scaled, weight = tempered_rows(rows.logits, reference, beta=beta)
    tail_scaled = (reference - top) * beta
    tail_weight = np.exp(tail_scaled + tail.log_mass)
    return Tempered(
        beta=beta,
        top=top,
        scaled=scaled,
        weight=weight,
        tail_scaled=tail_scaled,
        tail_weight=tail_weight,
        total=weight.sum(axis=1) + tail_weight,
        tail=tail,
    )


@dataclass(frozen=True)
class Moments:
    """Of the whole distribution: `log_z` is the logsumexp of logits / T, the rest in nats.

    Greedy leaves one token, whose logit `log_z` then holds.
    """

    log_z: PerPosition
    entropy_nats: PerPosition
    varentropy: PerPosition


def moments(rows: Distributions, *, temperature: float) -> Moments:
    """Log-partition, entropy and varentropy (nats squared) at T (method.md section 3).

    Raises:
        OutsideContract: some row has a tail and T lies outside the grid's range.
    """
    parts = [
        moments_of(temper(rows.part(block), temperature=temperature)) for block in rows.blocks()
    ]
    return Moments(
        log_z=np.concatenate([part.log_z for part in parts]),
        entropy_nats=np.concatenate([part.entropy_nats for part in parts]),
        varentropy=np.concatenate([part.varentropy for part in parts]),
    )


def moments_of(tempered: Tempered) -> Moments:
    """Moments of rows that are tempered already."""
    t = tempered
    # The tail's mean logit, on the scale of `scaled`.
    tail_mean = np.maximum(t.tail_scaled, LOWEST) + t.beta * t.tail.mean
    first = mean_rows(t.weight, t.scaled, lowest=LOWEST) + t.tail_weight * tail_mean
    mean = first / t.total
    tail_second = t.beta**2 * (t.tail.square - t.tail.mean**2) + (tail_mean - mean) ** 2
    second = square_rows(t.weight, t.scaled, mean, lowest=LOWEST) + t.tail_weight * tail_second
    log_total = np.log(t.total)
    return Moments(
        log_z=t.beta * t.top + log_total,
        entropy_nats=np.maximum(log_total - mean, 0.0),
        varentropy=second / t.total,
    )


def kl_nats(
    a: Distributions,
    b: Distributions,
    *,
    cross_mean: TailNodes,
    temperature_a: float,
    temperature_b: float,
) -> PerPosition:
    """KL(a at T_a || b at T_b), nats, >= 0; whole vocabulary (method.md section 3).

    inf where b masks a candidate that a does not.

    Args:
        a: Whose expectation is taken.
        b: The same positions and candidates.
        cross_mean: Over a's tempered tail at the nodes, the mean of b's logits relative to b's
            `tail.reference`.
        temperature_a: Of a.
        temperature_b: Of b.

    Raises:
        OutsideContract: some row has a tail and a temperature lies outside the grid's range.
        ValueError: the candidates differ.
    """
    require_same_candidates(a, b)
    parts = [
        _kl_block(
            settle(a.part(block), temperature=temperature_a),
            settle(b.part(block), temperature=temperature_b),
            cross_mean[block],
        )
        for block in a.blocks()
    ]
    return np.concatenate(parts)


def require_same_candidates(a: Distributions, b: Distributions) -> None:
    """Raise `ValueError` unless columns of the two mean the same ids."""
    if a.ids is not b.ids and not np.array_equal(a.ids, b.ids):
        raise ValueError(
            "two distributions must have the same candidates, got different ids; take both from "
            "the same rows of one run"
        )


def _kl_block(a: Settled, b: Settled, cross_mean: TailNodes) -> PerPosition:
    tails = [
        at_temperature(one.rows.tail, one.rows.betas, temperature=one.temperature) for one in (a, b)
    ]
    cross = cross_mean_at(
        a.rows.tail,
        tails[0],
        a.rows.betas,
        cross_mean=cross_mean,
        temperature=a.temperature,
    )
    return kl_rows(tailed_rows(a, tails[0]), tailed_rows(b, tails[1]), cross)


def tailed_rows(settled: Settled, tail: TailAt) -> TailedRows:
    """Rows as compiled passes take them; `tail` is theirs at their temperature."""
    rows = settled.rows
    return TailedRows(
        np.ascontiguousarray(rows.logits),
        rows.tail.reference.astype(np.float64),
        tail.log_mass,
        tail.mean,
        tail.square,
        1 / settled.temperature,
    )
