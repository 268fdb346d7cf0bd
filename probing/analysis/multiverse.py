"""Does a conclusion hang on a setting? The same means under every combination of settings.

Source: docs/method.md, Multiverse (after Steegen, Tuerlinckx, Gelman and Vanpaemel, 2016).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from probing.analysis.deltas import per_carrier_weights
from probing.analysis.kinds import CODES, KindCodes
from probing.analysis.nulls import BesideNull, beside_null
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, PositionMask


@dataclass(frozen=True)
class Conclusion:
    """A claim whose sign is looked at: the mean delta of a quantity at a kind.

    Attributes:
        quantity: name of a statistic.
        kind: where its delta is averaged.
        less: whose mean delta is subtracted, for a contrast of two kinds.
    """

    quantity: str
    kind: Kind
    less: Kind | None = None


@dataclass(frozen=True)
class Universe:
    """One combination of settings."""

    preset: str
    assignment: Assignment
    decoding: str
    selector: str


@dataclass(frozen=True)
class Weighing:
    """What positions count; with carriers, every carrier counts alike within any group.

    Attributes:
        weights: of positions, >= 0.
        carriers: carrier of each position, or None.
        carrier_weights: with carriers, what the carrier of each position counts.
    """

    weights: PerPosition
    carriers: PositionIds | None = None
    carrier_weights: PerPosition | None = None

    def within(self, group: PositionMask) -> PerPosition:
        """The weights of a group's positions; 0 outside it."""
        inside = np.where(group, self.weights, 0.0)
        if self.carriers is None or self.carrier_weights is None:
            return inside
        shares = per_carrier_weights(inside, self.carriers)
        return np.asarray(shares * self.carrier_weights)

    def part(self, rows: PositionIds) -> "Weighing":
        """Of some positions."""
        return Weighing(
            self.weights[rows],
            None if self.carriers is None else self.carriers[rows],
            None if self.carrier_weights is None else self.carrier_weights[rows],
        )


@dataclass(frozen=True)
class Branches:
    """What every setting can be, ready to be combined. The first of each is the default.

    Attributes:
        kinds: by preset.
        deltas: by decoding, then by quantity: other - baseline of every position.
        weighings: by selector.
        clusters: problem of every position, 0 ... size - 1.
        size: how many problems.
    """

    kinds: Mapping[str, KindCodes]
    deltas: Mapping[str, Mapping[str, PerPosition]]
    weighings: Mapping[str, Weighing]
    clusters: PositionIds
    size: int

    def universes(self) -> list[Universe]:
        """Every combination, that of the defaults first."""
        settings = product(self.kinds, Assignment, self.deltas, self.weighings)
        return [Universe(*each) for each in settings]


@dataclass(frozen=True)
class Outcome:
    """One conclusion in one universe."""

    universe: Universe
    conclusion: Conclusion
    found: BesideNull


def outcomes(branches: Branches, conclusions: Sequence[Conclusion]) -> Iterator[Outcome]:
    """Every conclusion in every universe, universe by universe."""
    for universe in branches.universes():
        known: dict[tuple[Kind, str], BesideNull] = {}
        for conclusion in conclusions:
            sides = [conclusion.kind, *([conclusion.less] if conclusion.less else [])]
            for kind in sides:
                if (kind, conclusion.quantity) not in known:
                    known[kind, conclusion.quantity] = _at_kind(
                        branches, universe, kind=kind, quantity=conclusion.quantity
                    )
            first, *second = (known[kind, conclusion.quantity] for kind in sides)
            yield Outcome(universe, conclusion, first - second[0] if second else first)


def _at_kind(branches: Branches, universe: Universe, *, kind: Kind, quantity: str) -> BesideNull:
    """The mean delta of a quantity at a kind."""
    codes, weighing = branches.kinds[universe.preset], branches.weighings[universe.selector]
    delta = branches.deltas[universe.decoding][quantity]
    measured = np.isfinite(delta)
    own, mirror = (
        weighing.within(measured & (each.by(universe.assignment) == CODES[kind]))
        for each in (codes, codes.exchanged())
    )
    return beside_null(
        delta,
        weights=own,
        exchanged_weights=mirror,
        clusters=branches.clusters,
        size=branches.size,
    )


@dataclass(frozen=True)
class Steadiness:
    """How one conclusion fares over all universes.

    Attributes:
        sign: of the first universe (the defaults): -1, 0 or 1; NaN where it was not measured.
        universes: in how many it was measured.
        same_sign: share of those with that sign. No change at all is a sign of its own, 0.
        beyond: share of those with that sign, 1 or -1, of which what is left beside the
            role-exchange null has that sign too, at the level asked for.
        low, high: the least and the largest estimate.
    """

    conclusion: Conclusion
    sign: float
    universes: int
    same_sign: float
    beyond: float
    low: float
    high: float


def steadiness(found: Sequence[Outcome], *, level: float) -> list[Steadiness]:
    """One entry per conclusion, in their order.

    Args:
        found: of `outcomes`.
        level: of the intervals that must leave out 0, for `beyond`.
    """
    by_conclusion: dict[Conclusion, list[BesideNull]] = {}
    for outcome in found:
        by_conclusion.setdefault(outcome.conclusion, []).append(outcome.found)
    return [_steadiness(each, own, level=level) for each, own in by_conclusion.items()]


def _steadiness(conclusion: Conclusion, found: list[BesideNull], *, level: float) -> Steadiness:
    sign = float(np.sign(found[0].own.value))
    measured = [each for each in found if np.isfinite(each.own.value)]
    values = [each.own.value for each in measured]
    same = [bool(np.sign(each.own.value) == sign) for each in measured]
    told = [
        has and told_beyond(each, level=level) for each, has in zip(measured, same, strict=True)
    ]
    known = bool(measured) and np.isfinite(sign)
    return Steadiness(
        conclusion=conclusion,
        sign=sign,
        universes=len(measured),
        same_sign=float(np.mean(same)) if known else float("nan"),
        beyond=float(np.mean(told)) if known else float("nan"),
        low=min(values, default=float("nan")),
        high=max(values, default=float("nan")),
    )


def told_beyond(found: BesideNull, *, level: float) -> bool:
    """Whether a delta has a sign that what is left of it beside its null has too, at this level."""
    beyond = found.beyond
    side = np.sign(found.own.value)
    return bool(side != 0 and np.sign(beyond.value) == side and beyond.p_value() <= 1 - level)
