"""The drift null beside the deltas of tables by kind: what noise gives that costs as much KL."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import pandas as pd

from probing.analysis.drifting import (
    Counting,
    DriftNulls,
    DriftReading,
    Place,
    drift_nulls,
)
from probing.analysis.estimates import Estimate
from probing.reporting.comparison import KIND_DECODING, other_index, settled_rule
from probing.reporting.contrasts import COMPARISON, contrast_name
from probing.reporting.deltas import ALL
from probing.reporting.filters import Filters, Weighting, weights
from probing.reporting.mechanism import (
    carrying,
    observed_kl,
    places_beside,
    problem_codes,
)
from probing.reporting.multiverse import weighing_of
from probing.settings import DEFAULT_ASSIGNMENT, Decoding, KindRule
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, Stratum

NULL_DRIFT, NULL_DRIFT_ERROR = "null_drift", "null_drift_error"
"""Columns: a mean delta under drift, and its standard error over problems."""

KEYS = (COMPARISON, "assignment", "kind", "quantity")

BY_KIND_ALONE = (
    "The drift null is known by kind alone: not for other groups, nor where events are filtered"
)


@dataclass(frozen=True, kw_only=True)
class DriftAsked:
    """All that the drift null of a run's deltas depends on.

    Attributes:
        other: name of the model that is looked at.
        control: of the one beside it, if any.
        decoding: of the deltas.
        kind_decoding: under which kinds are taken.
        rule: thresholds of the kinds.
        filters: which positions are kept. Of kinds it takes those that all together are of; whose
            kinds they are plays no part, since all three assignments are answered.
        weighting: which positions carry the figures, and what each counts.
        seed: of the noise, and of the part that is taken of many positions.
    """

    other: str
    control: str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    kind_decoding: Decoding = KIND_DECODING
    rule: KindRule = field(default_factory=KindRule)
    filters: Filters = field(default_factory=Filters)
    weighting: Weighting = field(default_factory=Weighting)
    seed: int = 0

    def __post_init__(self) -> None:
        # The same question, whichever assignment the reader looks at.
        object.__setattr__(self, "filters", replace(self.filters, assignment=DEFAULT_ASSIGNMENT))

    @property
    def names(self) -> tuple[str, ...]:
        """The models that get noise."""
        return (self.other,) if self.control is None else (self.other, self.control)


@dataclass(frozen=True)
class DriftNull:
    """The drift null of every delta by kind.

    Attributes:
        table: columns `KEYS`, `null_drift` and its error; no rows where it is not known.
        note: what a reader must know of it, or empty.
    """

    table: pd.DataFrame
    note: str = ""


Drifts: TypeAlias = Callable[[Run, DriftAsked], DriftNull]
"""`drift_null`, or the same with a memory."""


def drift_null(run: Run, asked: DriftAsked) -> DriftNull:
    """Mean deltas by kind where each model is the baseline with noise that costs as much KL.

    At the positions that carry the figures, at most `MOST_POSITIONS` of them by the seed. The
    difference of other and control takes its kinds from the mean over all models, each with its own
    noise. Not known where events are filtered: noise would make events of its own.

    Args:
        run: the run.
        asked: settings.

    Raises:
        UsageFault: no such other model.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    indices = [other_index(run, name) for name in asked.names]
    if asked.filters.event:
        return replace(NOT_KNOWN, note=BY_KIND_ALONE)
    places = places_beside(run, asked.other)
    free = replace(asked.filters, kind=())
    weight = weights(places, weighting=asked.weighting)
    rows, left_out = carrying(places, weight, filters=free, seed=asked.seed)
    if not len(rows):
        return NOT_KNOWN
    problems = problem_codes(places)
    kept = places.iloc[rows]
    found = drift_nulls(
        run.distributions(run.model_names[0], rows=rows),
        [observed_kl(run, index)[rows] for index in indices],
        counted=Counting(weighing_of(kept, asked.weighting), problems.codes[rows], problems.size),
        reading=DriftReading(
            decoding=asked.decoding,
            kinds=asked.kind_decoding,
            rule=settled_rule(run, asked.rule, kind_decoding=asked.kind_decoding),
            within=[Kind(kind) for kind in asked.filters.kind] or list(Kind),
        ),
        of_all=len(run.model_names) if asked.control is not None else None,
        rng=np.random.default_rng(asked.seed),
    )
    part = f"The drift null rests on {len(rows):,} positions drawn by chance, {left_out:,} left out"
    return DriftNull(_table(_named(found, asked)), part if left_out else "")


def _named(found: DriftNulls, asked: DriftAsked) -> dict[str, Mapping[Place, Estimate]]:
    """What was found, by the name of the comparison."""
    named: dict[str, Mapping[Place, Estimate]] = dict(zip(asked.names, found.models, strict=True))
    if found.difference is not None and asked.control is not None:
        named[contrast_name(asked.other, asked.control)] = found.difference
    return named


def _table(named: Mapping[str, Mapping[Place, Estimate]]) -> pd.DataFrame:
    rows = [
        (name, str(at.assignment), at.kind.value if at.kind else ALL, at.quantity, *_figures(null))
        for name, own in named.items()
        for at, null in own.items()
    ]
    return pd.DataFrame(rows, columns=[*KEYS, NULL_DRIFT, NULL_DRIFT_ERROR])


def _figures(null: Estimate) -> Iterator[float]:
    yield null.value
    yield null.error


NOT_KNOWN = DriftNull(_table({}))


def stands_beside(by: Sequence[str]) -> bool:
    """Whether a table with this grouping has a drift null: by kind alone, or all together."""
    return list(by) in ([], [Stratum.KIND])


def with_drift(
    table: pd.DataFrame, null: DriftNull, *, assignment: Assignment = DEFAULT_ASSIGNMENT
) -> pd.DataFrame:
    """A delta table with the drift null beside the other, NaN where it is not known.

    Columns set, after `null_high`: `null_drift`, `null_drift_error`.

    Args:
        table: of `delta_tables` by kind or all together, or of `assignment_tables`.
        null: of the same run and settings.
        assignment: whose kinds the table has, where it does not say so itself.
    """
    keys = pd.DataFrame(
        {
            COMPARISON: table[COMPARISON],
            "assignment": table.get("assignment", str(assignment)),
            "kind": table.get(Stratum.KIND.value, ALL),
            "quantity": table["quantity"],
        },
        index=table.index,
    )
    beside = keys.merge(null.table, how="left", on=list(KEYS), validate="many_to_one")
    found = table.drop(columns=[NULL_DRIFT, NULL_DRIFT_ERROR], errors="ignore")
    place = list(found.columns).index("null_high")
    for offset, name in enumerate((NULL_DRIFT, NULL_DRIFT_ERROR), start=1):
        found.insert(place + offset, name, beside[name].to_numpy(dtype=np.float64))
    return found
