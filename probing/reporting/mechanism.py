"""What a run says about the mechanism: the evidence of a pair of models, and the verdict."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from probing.analysis.deltas import delta
from probing.analysis.estimates import Estimate, mean_estimate
from probing.analysis.mechanism import (
    Compared,
    Evidence,
    Reading,
    Tested,
    Together,
    weighed,
)
from probing.analysis.pair import PairRows, Weighted
from probing.analysis.verdict import Control, Verdict, verdict
from probing.errors import NoCarriersLeft
from probing.reporting.comparison import (
    KIND_DECODING,
    kind_codes,
    kind_labels,
    mean_measure,
    other_index,
    pair_columns,
    settled_rule,
)
from probing.reporting.contrasts import MEAN_OF_ALL
from probing.reporting.filters import Filters, Weighting, keep, weights
from probing.reporting.places import place_table, right_models
from probing.settings import KindRule, Rules, Training, require
from probing.store.reader import Run
from probing.vocabulary import Kind, PerPosition, PositionIds, Stratum

LEVEL = 0.95

MOST_POSITIONS = 20_000
"""Of more positions a random part of this size is taken; whole rows of a million fill a memory."""

OWN_KINDS = ("kind", "event")
"""Filters that evidence does not take: it compares kinds, and nulls have kinds of their own."""


@dataclass(frozen=True)
class Found:
    """Of one other model: the evidence and what it comes to.

    Attributes:
        evidence: figures with their nulls.
        verdict: by the rules asked for.
        left_out: positions that a random part left out, 0 mostly; see `MOST_POSITIONS`.
    """

    evidence: Evidence
    verdict: Verdict
    left_out: int = 0


@dataclass(frozen=True)
class Asked:
    """What the mechanism is asked under.

    Attributes:
        training: T_train, k and p of the samples that were trained on.
        rule: thresholds of the kinds.
        weighting: which positions carry the figures.
        filters: which of them are kept; without kinds and events.
        rules: of the verdict.
        seed: of noise, folds, signs, and of the part that is taken of many positions.
    """

    training: Training
    rule: KindRule = field(default_factory=KindRule)
    weighting: Weighting = field(default_factory=Weighting)
    filters: Filters = field(default_factory=Filters)
    rules: Rules = field(default_factory=Rules)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in OWN_KINDS:
            chosen = getattr(self.filters, name)
            require(not chosen, f"evidence on the mechanism takes every {name}", chosen)


@dataclass(frozen=True)
class Chosen:
    """The positions that carry evidence.

    Attributes:
        rows: of the run, ascending.
        counted: what each counts, and its problem among all of the run.
        left_out: how many more there are.
    """

    rows: PositionIds
    counted: Weighted
    left_out: int


def places_beside(run: Run, other: str) -> pd.DataFrame:
    """`place_table` with which of the two models got the problem right: all that can be kept by."""
    return place_table(run).assign(**{Stratum.RIGHT: right_models(run, other)})


def chosen_positions(run: Run, other: str, asked: Asked) -> Chosen:
    """Positions of positive weight that pass the filters, at most `MOST_POSITIONS`.

    Raises:
        NoCarriersLeft: there is none.
    """
    places = places_beside(run, other)
    weight = weights(places, weighting=asked.weighting)
    rows, left_out = carrying(places, weight, filters=asked.filters, seed=asked.seed)
    if not len(rows):
        raise NoCarriersLeft(
            f"evidence needs positions that pass the filters, got none of {len(run)}; "
            "leave a filter out"
        )
    clusters, size = problem_codes(places)
    return Chosen(rows, Weighted(weight[rows], clusters[rows], size), left_out)


class Carrying(NamedTuple):
    """Rows of the run, ascending, and how many more were left out by chance."""

    rows: PositionIds
    left_out: int


def carrying(places: pd.DataFrame, weight: PerPosition, *, filters: Filters, seed: int) -> Carrying:
    """Positions of positive weight that pass the filters, at most `MOST_POSITIONS`.

    Args:
        places: of `places_beside`.
        weight: of every position.
        filters: without kinds and events.
        seed: of the part that is taken of more.
    """
    passing = keep(places, filters=filters)["row"].to_numpy()
    rows = passing[weight[passing] > 0]
    left_out = max(len(rows) - MOST_POSITIONS, 0)
    if left_out:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, MOST_POSITIONS, replace=False))
    return Carrying(rows, left_out)


class Problems(NamedTuple):
    """The problem of every position, 0 ... size - 1, and how many there are."""

    codes: PositionIds
    size: int


def problem_codes(places: pd.DataFrame) -> Problems:
    """Problems, numbered as they come."""
    codes, names = pd.factorize(places["problem_id"])
    return Problems(np.asarray(codes, dtype=np.int64), len(names))


def pair_rows(run: Run, other: str, rows: PositionIds) -> PairRows:
    """Positions of a run under the baseline and one other model."""
    baseline = run.model_names[0]
    return PairRows(
        baseline=run.distributions(baseline, rows=rows),
        other=run.distributions(other, rows=rows),
        mean=run.distributions(mean_measure(run, other), rows=rows),
        other_over_baseline=run.cross_mean(baseline, of=other, rows=rows),
        baseline_over_other=run.cross_mean(other, of=baseline, rows=rows),
    )


@dataclass(frozen=True)
class Findings:
    """What a run says about one other model, and about a control beside it.

    Attributes:
        models: by name, the one looked at first.
        difference: with a control, the figures of the first less those of the control, at the kinds
            of the mean over all models, beside the differences of their nulls; empty without one.
    """

    models: dict[str, Found]
    difference: dict[str, Tested] = field(default_factory=dict)


def mechanism(run: Run, names: Sequence[str], *, asked: Asked) -> Findings:
    """Evidence and verdict of one other model, or of one and a control beside it.

    All at the same positions: those that pass the filters for the first.

    Args:
        run: the run.
        names: the other model, and the control if there is one.
        asked: settings.

    Raises:
        UsageFault: no such other model.
        NoCarriersLeft: no position passes the filters.
        OutsideContract: the run cannot tell what this training kept.
    """
    places = [other_index(run, name) for name in names]
    chosen = chosen_positions(run, names[0], asked)
    together = None
    if len(names) > 1:
        rows = run.distributions(MEAN_OF_ALL, rows=chosen.rows)
        together = Together(rows, len(run.model_names))
    found = weighed(
        [
            Compared(pair_rows(run, name, chosen.rows), observed_kl(run, place)[chosen.rows])
            for name, place in zip(names, places, strict=True)
        ],
        together=together,
        counted=chosen.counted,
        reading=Reading(
            training=asked.training.decoding,
            kinds=KIND_DECODING,
            rule=settled_rule(run, asked.rule),
            drift_draws=asked.rules.drift_draws,
        ),
        rng=np.random.default_rng(asked.seed),
    )
    difference = found.difference or {}
    # The control's own verdict has nothing beside it.
    control = Control(difference["gap"], found.models[1]) if difference else None
    beside = [control, *[None for _ in names[1:]]]
    return Findings(
        {
            name: Found(one, verdict(one, rules=asked.rules, control=each), chosen.left_out)
            for name, one, each in zip(names, found.models, beside, strict=True)
        },
        difference,
    )


def observed_kl(run: Run, place: int) -> PerPosition:
    """The exact KL(baseline || other) at T = 1 of every position.

    Args:
        run: the run.
        place: of the other model on the model axis.
    """
    name = "kl_baseline_other"
    other = run.model_names[place]
    return pair_columns(run, other, decoding=KIND_DECODING, names=[name])[name]


BESIDE_TEMPERATURE = ("top1_prob", "entropy_nats", "entropy_kept_nats", "nucleus_size", "tail_mass")
"""Quantities whose deltas are shown again against the baseline at T*."""


def beside_temperature(run: Run, other: str, found: Found, *, asked: Asked) -> pd.DataFrame:
    """Deltas against the baseline, and against the baseline at T* (method.md section 10, item 4).

    What a change of temperature alone would do is in the first and not in the second. T* is one
    for all positions; the intervals take it as known. Kinds by the mean of the two models.

    Columns `kind`, `quantity`; `delta`, `low`, `high`; `delta_at`, `low_at`, `high_at` against the
    baseline at T*; `positions`, `problems`.

    Raises:
        OutsideContract: the run does not reach T*.
    """
    chosen = chosen_positions(run, other, asked)
    star = dataclasses.replace(KIND_DECODING, temperature=found.evidence.temperature.temperature)
    baseline = run.model_names[0]
    plain, at_star, after = (
        run.statistics(model, decoding=decoding, rule=asked.rule)
        for model, decoding in ((baseline, KIND_DECODING), (baseline, star), (other, KIND_DECODING))
    )
    codes = kind_codes(run, mean_measure(run, other), rule=asked.rule, decoding=KIND_DECODING)
    kind = kind_labels(codes)[chosen.rows]
    rows = []
    for name in (Kind.LOCK.value, Kind.FORK.value):
        for quantity in BESIDE_TEMPERATURE:
            end = np.asarray(getattr(after, quantity), dtype=np.float64)
            first, second = (
                _at_kind(
                    delta(np.asarray(getattr(start, quantity), dtype=np.float64), end)[chosen.rows],
                    np.asarray(kind == name),
                    chosen.counted,
                )
                for start in (plain, at_star)
            )
            low, high = first.interval(level=LEVEL)
            low_at, high_at = second.interval(level=LEVEL)
            rows.append(
                {
                    "kind": name,
                    "quantity": quantity,
                    "delta": first.value,
                    "low": low,
                    "high": high,
                    "delta_at": second.value,
                    "low_at": low_at,
                    "high_at": high_at,
                    "positions": first.positions,
                    "problems": first.clusters,
                }
            )
    return pd.DataFrame(rows)


def _at_kind(values: PerPosition, inside: np.ndarray, counted: Weighted) -> Estimate:
    return mean_estimate(
        values,
        weights=np.where(inside, counted.weights, 0.0),
        clusters=counted.clusters,
        size=counted.size,
    )
