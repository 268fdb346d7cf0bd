"""How far a model came towards the SSD target, and in which part (method.md section 10)."""

from dataclasses import dataclass

import numpy as np

from probing.analysis.distributions import Distributions
from probing.analysis.moments import moments, require_same_candidates
from probing.vocabulary import CandidateLogits, PerPosition


@dataclass(frozen=True)
class Progress:
    """Per position, nats: what the cross-entropy to the target q fell by, from a to b.

    CE(q, a) - CE(q, b) = support + within, exactly: with m the mass of q's support S,

        support = log m_b - log m_a,   within = sum_S q (log p_b / m_b - log p_a / m_a).

    Where nothing known lies outside S (no truncation), support is 0, and within and distance are
    those among the candidates.

    Attributes:
        support: of mass that moved into the support (positive) or out of it.
        within: of what moved inside the support.
        distance: KL(q || a), which all of it is a share of.
    """

    support: PerPosition
    within: PerPosition
    distance: PerPosition

    @property
    def total(self) -> PerPosition:
        """Support + within."""
        total: PerPosition = self.support + self.within
        return total


def progress(a: Distributions, b: Distributions, target: Distributions) -> Progress:
    """Progress from a to b.

    Args:
        a: the baseline.
        b: the other model, over the same candidates.
        target: of `target.ssd_target`, made from the baseline.

    Raises:
        ValueError: the candidates differ.
    """
    require_same_candidates(a, target)
    inside, q = in_support(target), probabilities(target)
    log_a, log_b = log_probabilities(a), log_probabilities(b)
    mass_a, mass_b = (_log_mass(each, inside) for each in (log_a, log_b))
    gain = _sum(q, log_b, inside) - _sum(q, log_a, inside)
    moved = mass_b - mass_a
    # Where nothing that is known lies outside, no mass can move in.
    everything = (inside | ~np.isfinite(a.logits)).all(axis=1)
    support = np.where(everything, 0.0, moved)
    log_q = np.where(inside, target.logits, 0.0)
    return Progress(support=support, within=gain - moved, distance=_sum(q, log_q - log_a, inside))


def in_support(target: Distributions) -> np.ndarray:
    """Which candidates the target can draw."""
    return np.asarray(np.isfinite(target.logits))


def probabilities(target: Distributions) -> CandidateLogits:
    """Q of every candidate; 0 outside the support."""
    q: CandidateLogits = np.exp(target.logits)
    return q


def log_probabilities(rows: Distributions) -> CandidateLogits:
    """At T = 1 over the whole vocabulary, nats; -inf at unused places."""
    log_z = moments(rows, temperature=1.0).log_z
    found: CandidateLogits = rows.logits.astype(np.float64) - log_z[:, None]
    return found


def _log_mass(log_p: CandidateLogits, inside: np.ndarray) -> PerPosition:
    mass: PerPosition = np.log(np.where(inside, np.exp(log_p), 0.0).sum(axis=1))
    return mass


def _sum(weights: CandidateLogits, values: CandidateLogits, inside: np.ndarray) -> PerPosition:
    products = np.where(inside, weights, 0.0) * np.where(inside, values, 0.0)
    total: PerPosition = products.sum(axis=1)
    return total


def loss_parts(
    target: Distributions, b: Distributions, *, temperature: float
) -> dict[str, PerPosition]:
    """The SSD loss of b, taken apart (method.md section 10); the four parts sum to CE(q, b).

    With pi = b restricted to the support and renormalised, and T = `temperature` of training:

        CE(q, b) = -log m + (1 - T) H_{1/T}(pi) + T KL(q || Temper_T[pi]) + T H(q)

    H_alpha is the Renyi entropy of order alpha = 1/T, log sum pi^alpha / (1 - alpha), which at
    T = 1 is multiplied by 0.
    """
    inside, q = in_support(target), probabilities(target)
    log_b = log_probabilities(b)
    mass = _log_mass(log_b, inside)
    log_pi = np.where(inside, log_b - mass[:, None], -np.inf)
    powered = np.exp(log_pi / temperature)
    log_total = np.log(powered.sum(axis=1))
    log_q = np.where(inside, target.logits, 0.0)
    tempered = np.where(inside, log_pi / temperature - log_total[:, None], 0.0)
    return {
        "support": -mass,
        # (1 - T) H_{1/T} = (1 - T) log(sum) / (1 - 1/T) = -T log(sum): no division by 0 at T = 1.
        "reshaping": -temperature * log_total,
        "alignment": temperature * _sum(q, log_q - tempered, inside),
        "constant": -temperature * _sum(q, log_q, inside),
    }
