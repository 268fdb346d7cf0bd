"""Evidence for what training did, each figure beside both of its nulls (method.md section 10)."""

from dataclasses import dataclass

import numpy as np

from probing.analysis.decoding import Statistics, probability_of, statistics
from probing.analysis.deltas import delta
from probing.analysis.distributions import Distributions
from probing.analysis.drift import drifted, matching_scale, standard_noise, surprise
from probing.analysis.estimates import Estimate, average, mean_estimate
from probing.analysis.kinds import CODES, kinds
from probing.analysis.moments import top1_id
from probing.analysis.pair import Edge, PairRows, Weighted, edge
from probing.analysis.progress import progress
from probing.analysis.reshaping import Consistency, at_edge, predicted_slope, token_consistency
from probing.analysis.side_by_side import side_by_side
from probing.analysis.target import ssd_target
from probing.analysis.temperature import TemperatureNull, temperature_null
from probing.settings import Decoding, KindRule, Rules
from probing.vocabulary import Kind, PerPosition, PositionIds

LEAST_PREDICTED = 0.005
"""Changes of the top-1 probability that the target predicts below this have no sign to speak of."""


@dataclass(frozen=True)
class Tested:
    """A figure, and what it would be by selection alone.

    Attributes:
        own: the figure.
        exchange: the role-exchange null.
        drift: the drift null: the figure of the baseline with noise, scaled to the observed KL,
            the mean of several draws. Its error knows what of the draws is left in it.
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
    "support, fork - lock",
    "within at locks",
    "within at forks",
    "entropy within S at locks",
    "entropy within S at forks",
    "entropy within S, fork - lock",
    "top-1, fork - lock",
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
        r_squared: share of the change inside the support, within positions, that the slope tells.
        noise: standard deviation of the drift null's noise, logits, mean over positions and draws.
    """

    figures: dict[str, Tested]
    temperature: TemperatureNull
    tokens: Consistency
    r_squared: float
    noise: float


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    Attributes:
        training: T_train, k and p of the samples that were trained on.
        kinds: decoding under which kinds are taken and entropy within S is measured.
        rule: thresholds of the kinds.
        drift_draws: how often the drift null's noise is drawn.
    """

    training: Decoding
    kinds: Decoding
    rule: KindRule
    drift_draws: int = Rules.drift_draws


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
    target_a, target_b = (ssd_target(each, training=reading.training) for each in (a, b))
    own = _View(a, b, stats_a, stats_b, kind, target_a)
    figures = _figures(own, counted)
    exchanged = _figures(_View(b, a, stats_b, stats_a, kind, target_b), counted)
    drifts = side_by_side(
        lambda one: _drift(own, kl=kl, counted=counted, reading=reading, rng=one),
        rng.spawn(reading.drift_draws),
    )
    around = edge(a, b, target_a)
    return Evidence(
        figures={
            name: Tested(
                own=figures[name],
                exchange=average([figures[name], exchanged[name]]),
                drift=average([draw.figures[name] for draw in drifts]),
            )
            for name in FIGURES
        },
        temperature=temperature_null(pair, counted, rng),
        tokens=token_consistency(around, counted, rng),
        r_squared=predicted_slope(around, counted).r_squared,
        noise=float(np.mean([draw.noise for draw in drifts])),
    )


def _stats(rows: Distributions, reading: Reading) -> Statistics:
    return statistics(rows, decoding=reading.kinds, rule=reading.rule)


@dataclass(frozen=True)
class _View:
    """Model b against model a, a kind for every position, and the target made from a."""

    a: Distributions
    b: Distributions
    stats_a: Statistics
    stats_b: Statistics
    kind: PositionIds
    target: Distributions


@dataclass(frozen=True)
class _Drift:
    """Of one draw: every figure, and the standard deviation of the noise."""

    figures: dict[str, Estimate]
    noise: float


def _drift(
    own: _View, *, kl: PerPosition, counted: Weighted, reading: Reading, rng: np.random.Generator
) -> _Drift:
    """Every figure with model b as model a and noise that costs as much KL, kind by kind."""
    noise = standard_noise(own.a, rng)
    groups = kinds(own.stats_a, rule=reading.rule)
    scale = matching_scale(surprise(own.a, noise), kl, groups=groups, weights=counted.weights)
    noisy, between = (drifted(own.a, noise, scale=each) for each in (scale, scale / 2))
    kind_between = kinds(_stats(between, reading), rule=reading.rule)
    view = _View(own.a, noisy, own.stats_a, _stats(noisy, reading), kind_between, own.target)
    return _Drift(_figures(view, counted), float(np.average(scale, weights=counted.weights)))


def _figures(view: _View, counted: Weighted) -> dict[str, Estimate]:
    """Every figure of b against a, in the order of `FIGURES`."""
    around = edge(view.a, view.b, view.target)
    moved = progress(view.a, view.b, view.target)
    trend, gap = at_edge(around, counted)

    def mean(values: PerPosition, kind: Kind | None = None) -> Estimate:
        inside = True if kind is None else view.kind == CODES[kind]
        return mean_estimate(
            values,
            weights=np.where(inside, counted.weights, 0.0),
            clusters=counted.clusters,
            size=counted.size,
        )

    entropy = delta(view.stats_a.entropy_kept_nats, view.stats_b.entropy_kept_nats)
    top1 = delta(view.stats_a.top1_prob, view.stats_b.top1_prob)
    support, within, entropies, tops = (
        (mean(values, Kind.LOCK), mean(values, Kind.FORK))
        for values in (moved.support, moved.within, entropy, top1)
    )
    found = (
        predicted_slope(around, counted).coefficients[0],
        trend,
        gap,
        *support,
        support[1] - support[0],
        *within,
        *entropies,
        entropies[1] - entropies[0],
        tops[1] - tops[0],
        mean(_agreement(view, around)),
    )
    return dict(zip(FIGURES, found, strict=True))


def _agreement(view: _View, around: Edge) -> PerPosition:
    """1 where the top-1 probability moved the way the target says, -1 where not, NaN if unsaid."""
    top = top1_id(view.a)
    before, after = (probability_of(each, top, temperature=1.0) for each in (view.a, view.b))
    aimed = np.where((around.ids == top[:, None]) & around.inside, around.q, 0.0).sum(axis=1)
    predicted = aimed - before
    agreement: PerPosition = np.sign(predicted) * np.sign(after - before)
    return np.where(np.abs(predicted) >= LEAST_PREDICTED, agreement, np.nan)
