"""The drift null of deltas by kind: what noise that costs as much KL would do to them.

Source: docs/method.md, Nulls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from probing.analysis.decoding import Statistics, probability_of, statistics
from probing.analysis.deltas import DELTA_NAMES, delta
from probing.analysis.distributions import Distributions
from probing.analysis.drift import draw_noise, noisy_mean
from probing.analysis.estimates import Estimate, average, mean_estimate
from probing.analysis.kinds import CODES, KindCodes, kinds
from probing.analysis.multiverse import Weighing
from probing.analysis.side_by_side import side_by_side
from probing.settings import Decoding, KindRule, Rules
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, PositionMask

BASELINE_TOP = "baseline_top1_prob"

DRIFT_NAMES = (*DELTA_NAMES, BASELINE_TOP)
"""Quantities whose drift null is known; of the others noise has no value to give."""


class Place(NamedTuple):
    """Where a delta is averaged: a kind by an assignment (None: every kind asked for)."""

    assignment: Assignment
    kind: Kind | None
    quantity: str


@dataclass(frozen=True, kw_only=True)
class DriftReading:
    """How the baseline with noise is read.

    Attributes:
        decoding: of the deltas.
        kinds: decoding under which kinds are taken.
        rule: thresholds of the kinds.
        quantities: names among `DRIFT_NAMES`.
        within: the kinds that all positions together are of.
        draws: how often noise is drawn.
    """

    decoding: Decoding
    kinds: Decoding
    rule: KindRule
    quantities: Sequence[str] = DRIFT_NAMES
    within: Sequence[Kind] = tuple(Kind)
    draws: int = Rules.drift_draws


@dataclass(frozen=True)
class Counting:
    """What positions count, and which problem each belongs to.

    Attributes:
        weighing: of positions.
        clusters: problem of each, 0 ... size - 1.
        size: how many problems.
    """

    weighing: Weighing
    clusters: PositionIds
    size: int

    def mean(self, values: PerPosition) -> Estimate:
        """The weighted mean over the measured positions."""
        weights = self.weighing.within(np.isfinite(values))
        return mean_estimate(values, weights=weights, clusters=self.clusters, size=self.size)

    def part(self, rows: PositionIds) -> "Counting":
        """Of some positions."""
        return Counting(self.weighing.part(rows), self.clusters[rows], self.size)


@dataclass(frozen=True)
class DriftNulls:
    """Mean deltas under drift, each the mean of several draws.

    Attributes:
        models: of each other model, in the order given.
        difference: of two, those of the first less those of the second, at the kinds of the mean
            over all models, the same whatever the assignment; None where it was not asked for.
    """

    models: tuple[dict[Place, Estimate], ...]
    difference: dict[Place, Estimate] | None


def drift_nulls(
    baseline: Distributions,
    kl: Sequence[PerPosition],
    *,
    counted: Counting,
    reading: DriftReading,
    of_all: int | None,
    rng: np.random.Generator,
) -> DriftNulls:
    """Mean deltas by kind where each other model is the baseline with noise that costs as much KL.

    Kinds by the baseline are its own, by the other those of the noisy rows, by the mean those of
    the baseline with half the noise. A place that no position of a draw falls into has that draw
    left out; one that is empty in all of them is NaN.

    Args:
        baseline: its rows.
        kl: of every other model, KL(baseline || other) at T = 1, nats.
        counted: what positions count.
        reading: settings.
        of_all: with two other models, over how many models their difference's kinds are taken;
            None asks for no difference.
        rng: draws the noise.

    Raises:
        OutsideContract: as `statistics`.
    """
    whole = np.ones(len(baseline.ids), dtype=bool)
    fixed = _Fixed(baseline, counted, reading)
    draw = partial(fixed.draw, kl=kl, weights=counted.weighing.within(whole), of_all=of_all)
    drawn = side_by_side(draw, rng.spawn(reading.draws))
    models = [_mean_of([each.models[place] for each in drawn]) for place in range(len(kl))]
    if of_all is None:
        return DriftNulls(tuple(models), None)
    return DriftNulls(tuple(models), _mean_of([each.difference for each in drawn]))


@dataclass(frozen=True)
class _Draw:
    """Of one draw, by model; and of the difference, empty where none is asked for."""

    models: list[dict[Place, Estimate]]
    difference: dict[Place, Estimate]


_Values: TypeAlias = Mapping[str, PerPosition]
_Means: TypeAlias = dict[tuple[Kind | None, str], Estimate]


def _placed(means: Mapping[Assignment, _Means]) -> dict[Place, Estimate]:
    """Means by place."""
    return {Place(by, *at): mean for by, own in means.items() for at, mean in own.items()}


class _Fixed:
    """What every draw shares."""

    def __init__(self, baseline: Distributions, counted: Counting, reading: DriftReading) -> None:
        self.baseline, self.counted, self.reading = baseline, counted, reading
        stats = self._statistics(baseline)
        self.top_ids = stats.top1_id
        self.values = self._values(baseline, stats)
        self.kinds = self._kinds(baseline, stats)

    def draw(
        self,
        rng: np.random.Generator,
        *,
        kl: Sequence[PerPosition],
        weights: PerPosition,
        of_all: int | None,
    ) -> _Draw:
        """Every mean delta of one draw."""
        drawn = draw_noise(self.baseline, kl, groups=self.kinds, weights=weights, rng=rng)
        values, models = [], []
        for each in drawn:
            rows = each.rows()
            stats = self._statistics(rows)
            values.append(self._values(rows, stats))
            codes = KindCodes(
                mean=self._kinds(each.rows(share=0.5)),
                baseline=self.kinds,
                other=self._kinds(rows, stats),
            )
            means = {by: self._means(self.values, values[-1], codes.by(by)) for by in Assignment}
            models.append(_placed(means))
        if of_all is None:
            return _Draw(models, {})
        first, second = values
        common = self._kinds(noisy_mean(drawn, models=of_all))
        once = self._means(second, first, common)
        return _Draw(models, _placed(dict.fromkeys(Assignment, once)))

    def _means(self, start: _Values, end: _Values, codes: PositionIds) -> _Means:
        """The mean of end - start of every quantity, at every kind and at all asked for."""
        changes = {name: delta(start[name], end[name]) for name in self.reading.quantities}
        groups: dict[Kind | None, PositionMask] = {kind: codes == CODES[kind] for kind in Kind}
        groups[None] = np.isin(codes, [CODES[kind] for kind in self.reading.within])
        found: _Means = {}
        for kind, inside in groups.items():
            rows = np.flatnonzero(inside)
            counted = self.counted.part(rows)
            found |= {(kind, name): counted.mean(each[rows]) for name, each in changes.items()}
        return found

    def _statistics(self, rows: Distributions) -> Statistics:
        return statistics(rows, decoding=self.reading.decoding, rule=self.reading.rule)

    def _values(self, rows: Distributions, stats: Statistics) -> dict[str, PerPosition]:
        """Every quantity asked for, of every position."""
        found = {}
        for name in self.reading.quantities:
            if name == BASELINE_TOP:
                temperature = self.reading.decoding.temperature
                found[name] = probability_of(rows, self.top_ids, temperature=temperature)
            else:
                found[name] = np.asarray(getattr(stats, name), dtype=np.float64)
        return found

    def _kinds(self, rows: Distributions, stats: Statistics | None = None) -> PositionIds:
        """Kinds of some rows; their statistics serve again where the decodings are one."""
        reading = self.reading
        if stats is None or reading.kinds != reading.decoding:
            stats = statistics(rows, decoding=reading.kinds, rule=reading.rule)
        return kinds(stats, rule=reading.rule)


def _mean_of(drawn: Sequence[Mapping[Place, Estimate]]) -> dict[Place, Estimate]:
    """The mean of the draws that measured a place."""
    found = {}
    for place, first in drawn[0].items():
        known = [draw[place] for draw in drawn if draw[place].positions]
        found[place] = average(known) if known else first
    return found
