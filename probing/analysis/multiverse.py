"""Does a conclusion hang on a setting? The same means under every combination of settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.kinds import CODES
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds


@dataclass(frozen=True)
class Conclusion:
    """A claim whose sign is looked at: the mean delta of a quantity at a kind."""

    kind: Kind
    quantity: str


@dataclass(frozen=True)
class Universe:
    """One combination of settings."""

    preset: str
    assignment: Assignment
    decoding: str
    selector: str


@dataclass(frozen=True)
class Kinds:
    """Kind codes of one preset, by each distribution of a pair."""

    mean: PositionIds
    baseline: PositionIds
    other: PositionIds

    def by(self, assignment: Assignment) -> PositionIds:
        """By the assignment."""
        found: PositionIds = getattr(self, assignment.value)
        return found

    def exchanged(self, assignment: Assignment) -> PositionIds:
        """By the assignment, once the models have changed places."""
        swap = {Assignment.BASELINE: Assignment.OTHER, Assignment.OTHER: Assignment.BASELINE}
        return self.by(swap.get(assignment, assignment))


@dataclass(frozen=True)
class Branches:
    """What every setting can be, ready to be combined.

    Attributes:
        kinds: by preset.
        deltas: by decoding, then by quantity: other - baseline of every position.
        weights: by selector.
        clusters: problem of every position, 0 ... size - 1.
        size: how many problems.
    """

    kinds: Mapping[str, Kinds]
    deltas: Mapping[str, Mapping[str, PerPosition]]
    weights: Mapping[str, PerPosition]
    clusters: PositionIds
    size: int

    def universes(self) -> list[Universe]:
        """Every combination, the first of each setting first."""
        return [
            Universe(*each) for each in product(self.kinds, Assignment, self.deltas, self.weights)
        ]


@dataclass(frozen=True)
class Outcome:
    """One conclusion in one universe.

    Attributes:
        estimate: the mean delta.
        beyond: what is left of it beside the role-exchange null.
    """

    universe: Universe
    conclusion: Conclusion
    estimate: Estimate
    beyond: Estimate


def outcomes(branches: Branches, conclusions: Sequence[Conclusion]) -> Iterator[Outcome]:
    """Every conclusion in every universe."""
    for universe in branches.universes():
        kinds = branches.kinds[universe.preset]
        own, swapped = kinds.by(universe.assignment), kinds.exchanged(universe.assignment)
        weights = branches.weights[universe.selector]
        for conclusion in conclusions:
            delta = branches.deltas[universe.decoding][conclusion.quantity]
            code = CODES[conclusion.kind]
            here, there = (
                mean_estimate(
                    values,
                    weights=np.where(kind == code, weights, 0.0),
                    clusters=branches.clusters,
                    size=branches.size,
                )
                for values, kind in ((delta, own), (-delta, swapped))
            )
            yield Outcome(universe, conclusion, here, here - here.half_sum(there))


@dataclass(frozen=True)
class Steadiness:
    """How one conclusion fares over all universes.

    Attributes:
        sign: of the first universe (the defaults); 0 where it was not measured.
        universes: in how many it was measured.
        same_sign: share of those with that sign.
        beyond: share with that sign also beside the null, and an interval that leaves out 0.
        low, high: the least and the largest estimate.
    """

    conclusion: Conclusion
    sign: int
    universes: int
    same_sign: float
    beyond: float
    low: float
    high: float


def steadiness(found: Sequence[Outcome], *, level: float) -> list[Steadiness]:
    """One entry per conclusion, in their order."""
    by_conclusion: dict[Conclusion, list[Outcome]] = {}
    for outcome in found:
        by_conclusion.setdefault(outcome.conclusion, []).append(outcome)
    return [_steadiness(each, own, level=level) for each, own in by_conclusion.items()]


def _steadiness(conclusion: Conclusion, own: list[Outcome], *, level: float) -> Steadiness:
    sign = np.sign(own[0].estimate.value)
    measured = [each for each in own if np.isfinite(each.estimate.value)]
    values = [each.estimate.value for each in measured]
    same = [np.sign(value) == sign for value in values]
    told = [
        np.sign(each.beyond.value) == sign and each.beyond.p_value() <= 1 - level
        for each in measured
    ]
    return Steadiness(
        conclusion=conclusion,
        sign=int(sign) if np.isfinite(sign) else 0,
        universes=len(measured),
        same_sign=float(np.mean(same)) if same else float("nan"),
        beyond=float(np.mean(told)) if told else float("nan"),
        low=min(values, default=float("nan")),
        high=max(values, default=float("nan")),
    )
