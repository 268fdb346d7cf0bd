"""Curves of a pair as tidy tables: mass by rank, truncation over temperature, and at equal mass."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import pandas as pd

from probing.analysis.curves import (
    QUANTITIES,
    PerPoint,
    Sides,
    Truncated,
    mass_by_rank,
    matched,
    mean_curves,
    over_temperatures,
)
from probing.analysis.estimates import Estimate
from probing.analysis.kinds import CODES
from probing.analysis.pair import Weighted
from probing.reporting.contrasts import contrast_name
from probing.reporting.deltas import ALL
from probing.reporting.filters import Weighting, weights
from probing.reporting.pairing import PairReader
from probing.settings import DEFAULT_ASSIGNMENT, Curves, Decoding, Inference, KindRule, require
from probing.store.reader import Run
from probing.vocabulary import Assignment, PositionIds

THREADS = 2
"""Blocks of positions worked on side by side; each holds its own logits."""

WITHIN = 1 + 1e-9
"""Temperatures this close to an end of the run's range are inside it."""

Row: TypeAlias = dict[str, object]

MATCHED_QUANTITIES = tuple(name for name in QUANTITIES if name != "tail_mass")


@dataclass(frozen=True)
class CurveTables:
    """The three tables; in each, `kind` is a kind or `all`, and intervals are over problems.

    Attributes:
        by_rank: mean mass of the r likeliest tokens at T = 1. Columns `kind`, `model`, `rank`,
            `mass`, `low`, `high`, `positions`, `problems`. Ranks that the run does not know exactly
            have no rows.
        by_temperature: what top-k and top-p leave. Columns `kind`, `model`, `temperature`,
            `quantity` (`nucleus_size`, `entropy_kept_nats`, `tail_mass`), `value`, `low`, `high`,
            `positions`, `problems`. Temperatures outside the run's range have no rows.
        matched: at equal mean top-k mass. Columns `kind`, `quantity`, `temperature` (of the
            baseline), `other_temperature`, `top_mass` (of both), `baseline`, `other`, `delta`,
            `low`, `high`, `positions`, `problems`. NaN where no temperature of the other has that
            mass.

    `model` is the baseline, the other, or their difference (`other − baseline`).
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

    points: Curves = Curves()
    decoding: Decoding = Decoding()
    rule: KindRule = KindRule()
    assignment: Assignment = DEFAULT_ASSIGNMENT
    weighting: Weighting = Weighting()


DEFAULT_CURVES = CurvesAsked()


def curve_tables(
    run: Run, other: str, *, asked: CurvesAsked = DEFAULT_CURVES, level: float = Inference().level
) -> CurveTables:
    """The curves of the baseline and one other model, by kind.

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
    points = _answerable(run, asked.points)
    first, second = _read(run, (reader.baseline, other), points, asked.decoding)
    counted = Weighted(
        weights=weights(reader.places, weighting=asked.weighting),
        clusters=reader.clusters,
        size=reader.places["problem_id"].nunique(),
    )
    codes = reader.kinds(asked.rule).by(asked.assignment)
    groups = {ALL: np.ones(len(codes), dtype=bool)}
    groups |= {kind.value: codes == code for kind, code in CODES.items()}
    names = (reader.baseline, other, contrast_name(other, reader.baseline))
    by_rank, by_temperature, equal = [], [], []
    for kind, inside in groups.items():
        own = replace(counted, weights=np.where(inside, counted.weights, 0.0))
        place = _Place(kind, names, len(np.unique(own.clusters[own.weights > 0])), level)
        masses = mean_curves(first.mass, second.mass, counted=own)
        by_rank += place.rows(masses, value="mass", points=[{"rank": r} for r in points.ranks])
        sides = _measured_alike(first.truncated, second.truncated, counted=own)
        for quantity, curves in sides.items():
            at = [{"temperature": t, "quantity": quantity} for t in points.temperatures]
            by_temperature += place.rows(curves, value="value", points=at)
        for quantity in MATCHED_QUANTITIES:
            equal += place.matched_rows(sides, quantity, temperatures=points.temperatures)
    return CurveTables(*map(pd.DataFrame, (by_rank, by_temperature, equal)))


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
class _Model:
    """One model's curves at every position."""

    mass: PerPoint
    truncated: Truncated


def _read(
    run: Run, models: tuple[str, str], points: Curves, decoding: Decoding
) -> tuple[_Model, _Model]:
    """Both models, block by block."""

    def block(model: str, rows: PositionIds) -> tuple[PerPoint, Truncated]:
        found = run.distributions(model, rows=rows)
        mass = mass_by_rank(found, ranks=points.ranks)
        kept = over_temperatures(found, temperatures=points.temperatures, decoding=decoding)
        return mass, kept

    blocks = run.row_blocks()
    with ThreadPoolExecutor(THREADS) as pool:
        parts = [list(pool.map(partial(block, model), blocks)) for model in models]
    first, second = (
        _Model(
            mass=np.concatenate([mass for mass, _ in own]),
            truncated=Truncated(
                **{q: np.concatenate([getattr(kept, q) for _, kept in own]) for q in QUANTITIES}
            ),
        )
        for own in parts
    )
    return first, second


def _measured_alike(first: Truncated, second: Truncated, *, counted: Weighted) -> dict[str, Sides]:
    """By quantity, over the positions where both models have every quantity at a temperature."""
    known = np.ones(first.tail_mass.shape, dtype=bool)
    for quantity in QUANTITIES:
        for side in (first, second):
            known &= np.isfinite(getattr(side, quantity))
    return {
        quantity: mean_curves(
            *(np.where(known, getattr(side, quantity), np.nan) for side in (first, second)),
            counted=counted,
        )
        for quantity in QUANTITIES
    }


@dataclass(frozen=True)
class _Place:
    """What the rows of one kind share."""

    kind: str
    models: tuple[str, str, str]
    problems: int
    level: float

    def rows(
        self, sides: Sides, *, value: str, points: Sequence[Mapping[str, object]]
    ) -> list[Row]:
        """Per model and point; the difference comes last."""
        return [
            {"kind": self.kind, "model": model, **point, value: estimate.value, **self._end(estimate)}
            for model, curve in zip(
                self.models, (sides.baseline, sides.other, sides.delta), strict=True
            )
            for point, estimate in zip(points, curve, strict=True)
        ]

    def matched_rows(
        self, sides: Mapping[str, Sides], quantity: str, *, temperatures: Sequence[float]
    ) -> list[Row]:
        """Per temperature of the baseline."""
        outside = sides["tail_mass"]
        found = matched(outside, sides[quantity], temperatures=temperatures)
        return [
            {
                "kind": self.kind,
                "quantity": quantity,
                "temperature": temperature,
                "other_temperature": each.temperature,
                "top_mass": 1 - mass.value,
                "baseline": each.baseline.value,
                "other": each.other.value,
                "delta": each.delta.value,
                **self._end(each.delta),
            }
            for temperature, mass, each in zip(temperatures, outside.baseline, found, strict=True)
        ]

    def _end(self, estimate: Estimate) -> Row:
        low, high = estimate.interval(level=self.level)
        problems = self.problems if estimate.positions else 0
        return {"low": low, "high": high, "positions": estimate.positions, "problems": problems}
