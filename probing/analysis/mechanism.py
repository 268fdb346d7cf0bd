"""Evidence for what training did, each figure beside both of its nulls (method.md section 10)."""

from dataclasses import dataclass

import numpy as np

from probing.analysis.decoding import Statistics, probability_of, statistics
from probing.analysis.deltas import delta
from probing.analysis.distributions import Distributions
from probing.analysis.drift import drifted, matching_scale, standard_noise, surprise
from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.kinds import CODES, kinds
from probing.analysis.moments import top1_id
from probing.analysis.pair import Edge, PairRows, Weighted, edge
from probing.analysis.progress import progress
from probing.analysis.reshaping import Consistency, at_edge, predicted_slope, token_consistency
from probing.analysis.target import ssd_target
from probing.analysis.temperature import TemperatureNull, temperature_null
from probing.settings import Decoding, KindRule
from probing.vocabulary import Kind, PerPosition, PositionIds

LEAST_PREDICTED = 0.005
"""Changes of the top-1 probability that the target predicts below this have no sign to speak of."""


@dataclass(frozen=True)
class Tested:
    """A figure, and what it would be by selection alone.

    Attributes:
        own: the figure.
        exchange: the role-exchange null.
        drift: the drift null: the figure of the baseline with noise, scaled to the observed KL.
        p_value: of its being inside either null: the larger p-value of the two differences; 1 where
            they point apart; NaN where one has no error.
    """

    own: Estimate
    exchange: Estimate
    drift: Estimate

    @property
    def beyond(self) -> tuple[Estimate, Estimate]:
        """What is left of the figure beside each null."""
        return self.own - self.exchange, self.own - self.drift

    @property
    def p_value(self) -> float:
        """See above."""
        first, second = self.beyond
        if first.value * second.value <= 0:
            return 1.0 if np.isfinite(first.value * second.value) else float("nan")
        return float(np.maximum(first.p_value(), second.p_value()))


FIGURES = (
    "slope",
    "trend",
    "gap",
    "support at locks",
    "support at forks",
    "within at locks",
    "within at forks",
    "entropy within S, fork - lock",
    "sign of the top-1 change",
)
"""Names of what `evidence` tests, in order."""


@dataclass(frozen=True)
class Evidence:
    """Everything that the verdict reads.

    Attributes:
        figures: by a name of `FIGURES`.
        temperature: the temperature null.
        tokens: whether single tokens moved alike everywhere.
        noise: standard deviation of the drift null's noise, logits, mean over positions.
    """

    figures: dict[str, Tested]
    temperature: TemperatureNull
    tokens: Consistency
    noise: float


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    Attributes:
        training: T_train, k and p of the samples that were trained on.
        kinds: decoding under which kinds are taken and entropy within S is measured.
        rule: thresholds of the kinds.
    """

    training: Decoding
    kinds: Decoding
    rule: KindRule


def evidence(
    pair: PairRows,
    *,
    kl: PerPosition,
    counted: Weighted,
    reading: Reading,
    rng: np.random.Generator,
) -> Evidence:
    """All figures with their nulls.

    Args:
        pair: the two models.
        kl: KL(baseline || other) at T = 1, nats, of every position: the drift null has as much.
        counted: what positions count.
        reading: settings.
        rng: draws the noise, the folds and the signs.

    Raises:
        OutsideContract: the candidates cannot tell what training kept.
    """
    a, b = pair.baseline, pair.other
    stats_a, stats_b, stats_mean = (_stats(each, reading) for each in (a, b, pair.mean))
    kind = kinds(stats_mean, rule=reading.rule)
    own = _figures(a, b, (stats_a, stats_b), kind, counted=counted, reading=reading)
    swapped = _figures(b, a, (stats_b, stats_a), kind, counted=counted, reading=reading)
    noise = standard_noise(a, rng)
    scale = matching_scale(
        surprise(a, noise), kl, groups=kinds(stats_a, rule=reading.rule), weights=counted.weights
    )
    noisy, between = drifted(a, noise, scale=scale), drifted(a, noise, scale=scale / 2)
    drift = _figures(
        a,
        noisy,
        (stats_a, _stats(noisy, reading)),
        kinds(_stats(between, reading), rule=reading.rule),
        counted=counted,
        reading=reading,
    )
    return Evidence(
        figures={
            name: Tested(own[name], own[name].half_sum(swapped[name]), drift[name])
            for name in FIGURES
        },
        temperature=temperature_null(pair, counted, rng),
        tokens=token_consistency(edge(a, b, training=reading.training), counted, rng),
        noise=float(np.average(scale, weights=counted.weights)),
    )


def _stats(rows: Distributions, reading: Reading) -> Statistics:
    return statistics(rows, decoding=reading.kinds, rule=reading.rule)


def _figures(
    a: Distributions,
    b: Distributions,
    stats: tuple[Statistics, Statistics],
    kind: PositionIds,
    *,
    counted: Weighted,
    reading: Reading,
) -> dict[str, Estimate]:
    """Every figure of b against a, in the order of `FIGURES`."""
    training = reading.training
    around = edge(a, b, training=training)
    target = ssd_target(
        a, temperature=training.temperature, top_k=training.top_k, top_p=training.top_p
    )
    moved = progress(a, b, target)
    trend, gap = at_edge(around, counted)
    locks, forks = (kind == CODES[each] for each in (Kind.LOCK, Kind.FORK))

    def at(values: PerPosition, where: np.ndarray) -> Estimate:
        return mean_estimate(
            values,
            weights=np.where(where, counted.weights, 0.0),
            clusters=counted.clusters,
            size=counted.size,
        )

    entropy = delta(stats[0].entropy_kept_nats, stats[1].entropy_kept_nats)
    found = (
        predicted_slope(around, counted).coefficients[0],
        trend,
        gap,
        at(moved.support, locks),
        at(moved.support, forks),
        at(moved.within, locks),
        at(moved.within, forks),
        at(entropy, forks) - at(entropy, locks),
        at(_agreement(a, b, around), np.ones(len(kind), dtype=bool)),
    )
    return dict(zip(FIGURES, found, strict=True))


def _agreement(a: Distributions, b: Distributions, around: Edge) -> PerPosition:
    """1 where the top-1 probability moved the way the target says, -1 where not, NaN if unsaid."""
    top = top1_id(a)
    before, after = (probability_of(each, top, temperature=1.0) for each in (a, b))
    aimed = np.where((around.ids == top[:, None]) & around.inside, around.q, 0.0).sum(axis=1)
    predicted = aimed - before
    agreement: PerPosition = np.sign(predicted) * np.sign(after - before)
    return np.where(np.abs(predicted) >= LEAST_PREDICTED, agreement, np.nan)
