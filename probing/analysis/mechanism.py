"""Evidence for what training did, each figure beside both of its nulls (method.md section 10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from probing.analysis.decoding import statistics
from probing.analysis.distributions import Distributions
from probing.analysis.drift import draw_noise, noisy_mean
from probing.analysis.estimates import Estimate, average
from probing.analysis.figures import FIGURES, Side, figures, moved
from probing.analysis.kinds import kinds
from probing.analysis.pair import Edge, PairRows, Weighted, edge
from probing.analysis.reshaping import Consistency, basis, predicted_slope, token_consistency
from probing.analysis.side_by_side import side_by_side
from probing.analysis.target import ssd_target
from probing.analysis.temperature import TemperatureNull, temperature_null
from probing.settings import Decoding, KindRule, Rules
from probing.vocabulary import PerPosition, PositionIds


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
    def side(self) -> int:
        """On which side of both nulls it lies: 1 above, -1 below, 0 between them."""
        first, second = (np.sign(each.value) for each in self.beyond)
        return int(first) if first == second else 0

    @property
    def p_value(self) -> float:
        """See above."""
        first, second = self.beyond
        if first.value * second.value <= 0:
            return 1.0 if np.isfinite(first.value * second.value) else float("nan")
        return float(np.maximum(first.p_value(), second.p_value()))

    def __sub__(self, other: "Tested") -> "Tested":
        """Figure less figure, beside null less null."""
        return Tested(
            self.own - other.own, self.exchange - other.exchange, self.drift - other.drift
        )


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
class Compared:
    """One other model beside the baseline.

    Attributes:
        rows: the two models.
        kl: KL(baseline || other) at T = 1, nats, of every position: the drift null has as much.
    """

    rows: PairRows
    kl: PerPosition


@dataclass(frozen=True)
class Together:
    """Distributions under which two other models are compared: the mean over all models.

    Attributes:
        rows: the mean of all models' logits.
        models: of how many.
    """

    rows: Distributions
    models: int


@dataclass(frozen=True)
class Weighed:
    """Evidence of one other model or two.

    Attributes:
        models: in the order given.
        difference: of two, the figures of the first less those of the second, both at the kinds of
            `Together`, each beside the difference of its nulls; None with one model.
    """

    models: tuple[Evidence, ...]
    difference: dict[str, Tested] | None


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
    """All figures of one model with their nulls; see `weighed`."""
    given = [Compared(pair, kl)]
    return weighed(given, together=None, counted=counted, reading=reading, rng=rng).models[0]


def weighed(
    compared: Sequence[Compared],
    *,
    together: Together | None,
    counted: Weighted,
    reading: Reading,
    rng: np.random.Generator,
) -> Weighed:
    """All figures of one other model, or of two and of their difference, with their nulls.

    Args:
        compared: at most two, over the same positions and candidates and the same baseline.
        together: gives the difference its kinds; None where there is none.
        counted: what positions count.
        reading: settings.
        rng: draws the noise, the folds and the signs.

    Raises:
        OutsideContract: the candidates cannot tell what training kept.
    """
    table = _Table(compared, together, counted, reading)
    drifts = side_by_side(table.drifted, rng.spawn(reading.drift_draws))
    models = tuple(
        Evidence(
            figures=table.tested(place, [draw.own[place] for draw in drifts], common=False),
            temperature=temperature_null(each.rows, counted, rng),
            tokens=token_consistency(table.around(place), counted, rng),
            r_squared=predicted_slope(table.around(place), table.basis).r_squared,
            noise=float(np.mean([draw.noise[place] for draw in drifts])),
        )
        for place, each in enumerate(compared)
    )
    if together is None:
        return Weighed(models, None)
    first, second = (
        table.tested(place, [draw.common[place] for draw in drifts], common=True)
        for place in range(2)
    )
    return Weighed(models, {name: first[name] - second[name] for name in FIGURES})


@dataclass(frozen=True)
class _Draw:
    """Of one draw of noise, by model: figures at own and at common kinds, the noise's size."""

    own: list[dict[str, Estimate]]
    common: list[dict[str, Estimate]]
    noise: list[float]


class _Table:
    """What is measured once and read by several figures and nulls."""

    def __init__(
        self,
        compared: Sequence[Compared],
        together: Together | None,
        counted: Weighted,
        reading: Reading,
    ) -> None:
        self.compared, self.together = compared, together
        self.counted, self.reading = counted, reading
        self.baseline = self._side(compared[0].rows.baseline)
        self.target = self._target(self.baseline.rows)
        others = [self._side(each.rows.other) for each in compared]
        self.basis = basis(self.around(0), counted)
        self.moves = [
            moved(self.baseline, each, self.target, counted, on=self.basis) for each in others
        ]
        self.swapped = [
            moved(each, self.baseline, self._target(each.rows), counted) for each in others
        ]
        self.kinds = [self._kinds(each.rows.mean) for each in compared]
        self.common = None if together is None else self._kinds(together.rows)

    def around(self, place: int) -> Edge:
        """The tokens around the edge of what training kept."""
        rows = self.compared[place].rows
        return edge(rows.baseline, rows.other, self.target)

    def tested(
        self, place: int, drifts: Sequence[dict[str, Estimate]], *, common: bool
    ) -> dict[str, Tested]:
        """Every figure of one model beside both nulls."""
        kind = self.common if common else self.kinds[place]
        assert kind is not None
        own, back = (
            figures(each[place], kind=kind, counted=self.counted)
            for each in (self.moves, self.swapped)
        )
        return {
            name: Tested(
                own=own[name],
                exchange=average([own[name], back[name]]),
                drift=average([draw[name] for draw in drifts]),
            )
            for name in FIGURES
        }

    def drifted(self, rng: np.random.Generator) -> _Draw:
        """Every figure where each other model is the baseline with noise that costs as much KL."""
        drawn = draw_noise(
            self.baseline.rows,
            [each.kl for each in self.compared],
            groups=kinds(self.baseline.stats, rule=self.reading.rule),
            weights=self.counted.weights,
            rng=rng,
        )
        moves = [
            moved(self.baseline, self._side(each.rows()), self.target, self.counted, on=self.basis)
            for each in drawn
        ]
        own = [
            figures(move, kind=self._kinds(each.rows(share=0.5)), counted=self.counted)
            for move, each in zip(moves, drawn, strict=True)
        ]
        common = []
        if self.together is not None:
            kind = self._kinds(noisy_mean(drawn, models=self.together.models))
            common = [figures(move, kind=kind, counted=self.counted) for move in moves]
        weights = self.counted.weights
        noise = [float(np.average(each.scale, weights=weights)) for each in drawn]
        return _Draw(own=own, common=common, noise=noise)

    def _side(self, rows: Distributions) -> Side:
        reading = self.reading
        return Side(rows, statistics(rows, decoding=reading.kinds, rule=reading.rule))

    def _kinds(self, rows: Distributions) -> PositionIds:
        return kinds(self._side(rows).stats, rule=self.reading.rule)

    def _target(self, rows: Distributions) -> Distributions:
        return ssd_target(rows, training=self.reading.training)
