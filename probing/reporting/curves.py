"""Curves of a pair as tidy tables: mass by rank, truncation over temperature, and at equal mass."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import numpy as np
import pandas as pd

from probing.analysis.curves import (
    QUANTITIES,
    AtEqualMass,
    PerPoint,
    Sides,
    Truncated,
    at_equal_mass,
    equal_mass_temperatures,
    mass_by_rank,
    mean_curve,
    mean_sides,
    over_temperatures,
)
from probing.analysis.distributions import Distributions
from probing.analysis.estimates import Estimate
from probing.analysis.kinds import CODES
from probing.analysis.pair import Weighted
from probing.reporting.contrasts import contrast_name
from probing.reporting.deltas import ALL
from probing.reporting.filters import Weighting, weights
from probing.reporting.pairing import PairReader
from probing.settings import DEFAULT_ASSIGNMENT, Curves, Decoding, Inference, KindRule, require
from probing.store.reader import Run
from probing.vocabulary import Assignment, PositionIds, PositionMask

THREADS = 2
"""Blocks of positions worked on side by side; each holds its own logits."""

WITHIN = 1 + 1e-9
"""Temperatures this close to an end of the run's range are inside it."""

MATCHED_QUANTITIES = tuple(name for name in QUANTITIES if name != "tail_mass")

Row: TypeAlias = dict[str, object]
Found = TypeVar("Found")


@dataclass(frozen=True)
class CurveTables:
    """The three tables; in each, `kind` is a kind or `all`, and intervals are over problems.

    `model` is the baseline, the other, or their difference (`other − baseline`), over the positions
    that both measure. `positions` and `problems` carry the figure.

    Attributes:
        by_rank: mean mass of the r likeliest tokens at T = 1. Columns `kind`, `model`, `rank`,
            `mass`, `low`, `high`, `positions`, `problems`. Ranks that the run does not know exactly
            have no rows.
        by_temperature: what top-k and top-p leave. Columns `kind`, `model`, `temperature`,
            `quantity` (`nucleus_size`, `entropy_kept_nats`, `tail_mass`), `value`, `low`, `high`,
            `positions`, `problems`. Temperatures outside the run's range have no rows.
        matched: at equal mean top-k mass. Columns `kind`, `quantity`, `temperature` (of the
            baseline), `other_temperature`, `top_mass` (of both), `baseline`, `other`, `delta`,
            `low`, `high` (of the delta), `positions`, `problems`. NaN where no temperature of the
            other has that mass.
    """

    by_rank: pd.DataFrame
    by_temperature: pd.DataFrame
    matched: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class CurvesAsked:
    """Under what curves are taken.

    Attributes:
        points: ranks and temperatures.
        decoding: top-k, top-p, min-p and order; its temperature is not used.
        rule: thresholds of the kinds.
        assignment: whose kind counts.
        weighting: which positions carry the figures.
    """

    points: Curves = field(default_factory=Curves)
    decoding: Decoding = field(default_factory=Decoding)
    rule: KindRule = field(default_factory=KindRule)
    assignment: Assignment = DEFAULT_ASSIGNMENT
    weighting: Weighting = field(default_factory=Weighting)


DEFAULT_CURVES = CurvesAsked()


def curve_tables(
    run: Run, other: str, *, asked: CurvesAsked = DEFAULT_CURVES, level: float = Inference().level
) -> CurveTables:
    """The curves of the baseline and one other model, by kind; see docs/method.md, "Curves".

    Args:
        run: the run.
        other: name of the model compared with the baseline.
        asked: settings.
        level: of the intervals.

    Raises:
        UsageFault: no such other model, or no temperature that the run can answer.
        OutsideContract: the run cannot answer this top-k or decoding order.
    """
    reader = PairReader.of(run, other)
    every = weights(reader.places, weighting=asked.weighting)
    used = np.flatnonzero(every > 0)
    counted = Weighted(
        weights=every[used],
        clusters=reader.clusters[used],
        size=reader.places["problem_id"].nunique(),
    )
    codes = reader.kinds(asked.rule).by(asked.assignment)[used]
    inside = {ALL: np.ones(len(used), dtype=bool)}
    inside |= {kind.value: codes == code for kind, code in CODES.items()}
    rows = _Rows(run, used, _answerable(run, asked.points), asked.decoding)
    first, second = (rows.along(model) for model in (reader.baseline, other))
    sides = {
        kind: _sides(first.part(group), second.part(group), counted=_within(counted, group))
        for kind, group in inside.items()
    }
    equal = {
        kind: equal_mass_temperatures(own["tail_mass"], temperatures=rows.points.temperatures)
        for kind, own in sides.items()
    }
    there = rows.at(other, inside=inside, temperatures=equal)
    names = (reader.baseline, other, contrast_name(other, reader.baseline))
    tables: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for kind, group in inside.items():
        own = _within(counted, group)
        place = _Place(kind, names, rows.points, len(np.unique(own.clusters)), level)
        tables[0].extend(place.mass_rows(sides[kind]["mass"]))
        for quantity in QUANTITIES:
            tables[1].extend(place.kept_rows(quantity, sides[kind][quantity]))
        means = {name: mean_curve(getattr(there[kind], name), counted=own) for name in QUANTITIES}
        for quantity in MATCHED_QUANTITIES:
            at = AtEqualMass(equal[kind], means["tail_mass"], means[quantity])
            tables[2].extend(place.matched_rows(quantity, sides[kind], at))
    return CurveTables(*map(pd.DataFrame, tables))


def _within(counted: Weighted, group: PositionMask) -> Weighted:
    """Only a group's positions, with the numbers of all problems."""
    return Weighted(counted.weights[group], counted.clusters[group], counted.size)


def _answerable(run: Run, points: Curves) -> Curves:
    """The points that the run knows of every position.

    Ranks beyond its top K are known of some positions only, and which ones hangs on the models.
    """
    if not np.isfinite(run.array("tail_reference")).any():
        return points
    low, high = 1 / run.betas[-1], 1 / run.betas[0]
    inside = [t for t in points.temperatures if low / WITHIN <= t <= high * WITHIN]
    rule = f"curves need a temperature from {low:.3g} to {high:.3g}, which this run holds"
    require(bool(inside), rule, list(points.temperatures))
    depth = run.manifest.settings.store.top_k
    ranks = [rank for rank in points.ranks if rank <= depth]
    return replace(points, ranks=tuple(ranks), temperatures=tuple(inside))


@dataclass(frozen=True)
class _Along:
    """One model along the curves."""

    mass: PerPoint
    kept: Truncated

    def part(self, group: PositionMask) -> "_Along":
        """Some positions of it."""
        return _Along(self.mass[group], _joined([self.kept], group))


def _joined(parts: Sequence[Truncated], group: PositionMask | slice = slice(None)) -> Truncated:
    """Blocks one after the other, or some positions of one."""
    return Truncated(
        **{
            name: np.concatenate([getattr(each, name)[group] for each in parts])
            for name in QUANTITIES
        }
    )


@dataclass(frozen=True)
class _Rows:
    """The positions that count, read block by block.

    Attributes:
        run: the run.
        used: its rows that count, ascending.
        points: ranks and temperatures.
        decoding: of truncation.
    """

    run: Run
    used: PositionIds
    points: Curves
    decoding: Decoding

    def along(self, model: str) -> _Along:
        """One model at every rank and temperature."""
        parts = self._blocks(model, self._along)
        return _Along(
            mass=np.concatenate([part.mass for part in parts]),
            kept=_joined([part.kept for part in parts]),
        )

    def _along(self, rows: Distributions, _: slice) -> _Along:
        return _Along(
            mass=mass_by_rank(rows, ranks=self.points.ranks),
            kept=over_temperatures(
                rows, temperatures=self.points.temperatures, decoding=self.decoding
            ),
        )

    def at(
        self,
        model: str,
        *,
        inside: Mapping[str, PositionMask],
        temperatures: Mapping[str, np.ndarray],
    ) -> dict[str, Truncated]:
        """One model at temperatures of each group's own; NaN at a NaN. Only the group's rows."""

        def of_block(rows: Distributions, block: slice) -> dict[str, Truncated]:
            return {
                name: self._at(rows.part(np.flatnonzero(group[block])), temperatures[name])
                for name, group in inside.items()
            }

        parts = self._blocks(model, of_block)
        return {name: _joined([part[name] for part in parts]) for name in inside}

    def _at(self, rows: Distributions, temperatures: np.ndarray) -> Truncated:
        known = np.isfinite(temperatures)
        found = over_temperatures(
            rows, temperatures=temperatures[known].tolist(), decoding=self.decoding
        )
        whole = {name: np.full((len(rows.ids), len(known)), np.nan) for name in QUANTITIES}
        for name, values in whole.items():
            values[:, known] = getattr(found, name)
        return Truncated(**whole)

    def _blocks(self, model: str, work: Callable[[Distributions, slice], Found]) -> list[Found]:
        """What `work` makes of every block, and of where its rows stand among those that count."""

        def one(rows: PositionIds) -> Found:
            start, stop = np.searchsorted(self.used, (rows[0], rows[-1] + 1)).tolist()
            inside = self.used[start:stop] - rows[0]
            return work(self.run.distributions(model, rows=rows).part(inside), slice(start, stop))

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(one, self.run.row_blocks()))


def _sides(first: _Along, second: _Along, *, counted: Weighted) -> dict[str, Sides]:
    """Means along the curves; those of truncation where both models have all of its quantities."""
    known = np.ones(first.kept.tail_mass.shape, dtype=bool)
    for name in QUANTITIES:
        for side in (first, second):
            known &= np.isfinite(getattr(side.kept, name))
    kept = {
        name: mean_sides(
            *(np.where(known, getattr(side.kept, name), np.nan) for side in (first, second)),
            counted=counted,
        )
        for name in QUANTITIES
    }
    return {"mass": mean_sides(first.mass, second.mass, counted=counted), **kept}


@dataclass(frozen=True)
class _Place:
    """What the rows of one kind share."""

    kind: str
    models: tuple[str, str, str]
    points: Curves
    problems: int
    level: float

    def mass_rows(self, sides: Sides) -> list[Row]:
        """By rank."""
        return [
            {"kind": self.kind, "model": model, "rank": rank, "mass": each.value, **self._end(each)}
            for model, curve in self._curves(sides)
            for rank, each in zip(self.points.ranks, curve, strict=True)
        ]

    def kept_rows(self, quantity: str, sides: Sides) -> list[Row]:
        """By temperature."""
        return [
            {
                "kind": self.kind,
                "model": model,
                "temperature": temperature,
                "quantity": quantity,
                "value": each.value,
                **self._end(each),
            }
            for model, curve in self._curves(sides)
            for temperature, each in zip(self.points.temperatures, curve, strict=True)
        ]

    def _curves(self, sides: Sides) -> list[tuple[str, list[Estimate]]]:
        """By model, the difference last."""
        return list(zip(self.models, (sides.baseline, sides.other, sides.delta), strict=True))

    def matched_rows(
        self, quantity: str, sides: Mapping[str, Sides], there: AtEqualMass
    ) -> list[Row]:
        """Per temperature of the baseline."""
        outside, figure = sides["tail_mass"], sides[quantity]
        temperatures = self.points.temperatures
        other = at_equal_mass(outside, figure, there, temperatures=temperatures)
        rows: list[Row] = []
        for place, temperature in enumerate(temperatures):
            own = figure.baseline[place]
            delta = other[place] - own
            rows.append(
                {
                    "kind": self.kind,
                    "quantity": quantity,
                    "temperature": temperature,
                    "other_temperature": float(there.temperatures[place]),
                    "top_mass": 1 - outside.baseline[place].value,
                    "baseline": own.value,
                    "other": other[place].value,
                    "delta": delta.value,
                    **self._end(delta),
                }
            )
        return rows

    def _end(self, estimate: Estimate) -> Row:
        low, high = estimate.interval(level=self.level)
        problems = self.problems if estimate.positions else 0
        return {"low": low, "high": high, "positions": estimate.positions, "problems": problems}
