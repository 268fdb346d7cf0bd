"""The drift null: the other model as the baseline with noise of its own (method.md section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import optimize

from probing.analysis.distributions import Distributions, Tail
from probing.analysis.moments import temper
from probing.vocabulary import CandidateLogits, PerPosition, PositionIds

MOST_NOISE = 16.0
"""Standard deviations (logit units) are looked for below this."""

PRECISION = 1e-11
"""To which the noise is known, in logits or of its size."""


def drifted(rows: Distributions, noise: CandidateLogits, *, scale: PerPosition) -> Distributions:
    """Add independent Gaussian noise to every logit of the vocabulary.

    Candidates get the noise that is given. Outside them noise is added in expectation, which many
    ids come close to: with x + s e, e standard normal, and a tail tempered with beta,

        log mass + beta^2 s^2 / 2,   mean + beta s^2,   square + 2 beta s^2 mean + s^2 + beta^2 s^4.

    Args:
        rows: of the baseline (or, for the mean of the two models, with half the scale).
        noise: standard normal, one value per candidate.
        scale: s of every position, in logits.

    Returns:
        The same candidates. It is marked as a mean: where noise lifts the tail over the candidates,
        a question about it gives NaN, not a refusal.
    """
    square = (scale.astype(np.float64) ** 2)[:, None]
    there = np.isfinite(rows.tail.reference)[:, None]
    beta = rows.betas[None, :]
    mean, second = rows.tail.mean.astype(np.float64), rows.tail.square.astype(np.float64)
    tail = Tail(
        reference=rows.tail.reference,
        log_mass=np.where(there, rows.tail.log_mass + beta**2 * square / 2, 0.0),
        mean=np.where(there, mean + beta * square, 0.0),
        square=np.where(
            there, second + 2 * beta * square * mean + square + (beta * square) ** 2, 0.0
        ),
    )
    return replace(rows, logits=rows.logits + scale[:, None] * noise, tail=tail, is_mean=True)


@dataclass(frozen=True)
class Surprise:
    """KL(a || a with noise) at T = 1 as a function of the noise.

    Attributes:
        probability: of each candidate under a.
        noise: see `drifted`; 0 at unused places.
        tail: probability of the tail.
    """

    probability: CandidateLogits
    noise: CandidateLogits
    tail: PerPosition

    def at(self, scale: PerPosition) -> PerPosition:
        """Nats, of every position: log sum p e^(s e) - sum p s e, the tail in expectation."""
        shift = scale[:, None] * self.noise
        grown = np.einsum("pc,pc->p", self.probability, np.exp(shift))
        grown += self.tail * np.exp(scale**2 / 2)
        expected = np.einsum("pc,pc->p", self.probability, shift)
        divergence: PerPosition = np.maximum(np.log(grown) - expected, 0.0)
        return divergence

    def part(self, inside: PositionIds) -> "Surprise":
        """Of some positions."""
        return Surprise(self.probability[inside], self.noise[inside], self.tail[inside])


def surprise(rows: Distributions, noise: CandidateLogits) -> Surprise:
    """What noise on these rows costs."""
    tempered = temper(rows, temperature=1.0)
    used = np.isfinite(rows.logits)
    return Surprise(
        probability=tempered.weight / tempered.total[:, None],
        noise=np.where(used, noise, 0.0),
        tail=tempered.tail_weight / tempered.total,
    )


def matching_scale(
    found: Surprise, observed: PerPosition, *, groups: PositionIds, weights: PerPosition
) -> PerPosition:
    """The noise under which the mean KL(a || a with noise) of every group is the observed one.

    Args:
        found: of the baseline.
        observed: KL(baseline || other) at T = 1, nats; not finite = not measured, left out.
        groups: a code per position, such as its kind: the scale is one for a group.
        weights: of positions.

    Returns:
        The standard deviation of every position (its group's), 0 where nothing was measured.
    """
    scale = np.zeros(len(observed))
    for group in np.unique(groups):
        inside = np.flatnonzero((groups == group) & np.isfinite(observed) & (weights > 0))
        if not len(inside):
            continue
        wanted = float(np.average(observed[inside], weights=weights[inside]))
        scale[groups == group] = _solve(found.part(inside), weights[inside], wanted)
    return scale


def _solve(found: Surprise, weights: PerPosition, wanted: float) -> float:
    """Where the rising mean cost reaches what is wanted; the end of the range else."""

    def beyond(scale: float) -> float:
        cost = found.at(np.full(len(weights), scale))
        return float(np.average(cost, weights=weights)) - wanted

    # No noise costs a rounding error, which may be more than what is wanted.
    if beyond(0.0) >= 0:
        return 0.0
    if beyond(MOST_NOISE) <= 0:
        return MOST_NOISE
    return float(optimize.brentq(beyond, 0.0, MOST_NOISE, xtol=PRECISION, rtol=PRECISION))


def standard_noise(
    rows: Distributions, rng: np.random.Generator
) -> Float[np.ndarray, "position candidate"]:
    """Standard normal noise for every candidate."""
    return rng.standard_normal(rows.logits.shape)


@dataclass(frozen=True)
class Noisy:
    """The baseline, and one draw of noise that costs as much KL as one other model does.

    Attributes:
        baseline: its rows.
        noise: standard normal, one value per candidate.
        scale: standard deviation of every position, logits.
    """

    baseline: Distributions
    noise: CandidateLogits
    scale: PerPosition

    def rows(self, *, share: float = 1.0) -> Distributions:
        """The baseline with this share of the noise: half of it is in the mean of the two."""
        return drifted(self.baseline, self.noise, scale=share * self.scale)


def draw_noise(
    baseline: Distributions,
    kl: Sequence[PerPosition],
    *,
    groups: PositionIds,
    weights: PerPosition,
    rng: np.random.Generator,
) -> list[Noisy]:
    """One draw of noise for every other model, each of its own.

    Args:
        baseline: its rows.
        kl: of each other model, KL(baseline || other) at T = 1, nats.
        groups: the baseline's kind of every position; see `matching_scale`.
        weights: of positions.
        rng: what is drawn from, model after model.
    """
    found = []
    for observed in kl:
        noise = standard_noise(baseline, rng)
        cost = surprise(baseline, noise)
        scale = matching_scale(cost, observed, groups=groups, weights=weights)
        found.append(Noisy(baseline, noise, scale))
    return found


def noisy_mean(drawn: Sequence[Noisy], *, models: int) -> Distributions:
    """The mean over all models, which has each one's share of the noise.

    Args:
        drawn: of the models that have noise, over the same baseline.
        models: of how many the mean is.
    """
    shares = [each.scale / models for each in drawn]
    scale = np.sqrt(np.sum(np.square(shares), axis=0))
    parts = [share[:, None] * each.noise for share, each in zip(shares, drawn, strict=True)]
    summed = np.sum(parts, axis=0)
    # One noise of unit size again, as `drifted` takes it.
    noise = np.divide(summed, scale[:, None], out=np.zeros_like(summed), where=scale[:, None] > 0)
    return drifted(drawn[0].baseline, noise, scale=scale)
