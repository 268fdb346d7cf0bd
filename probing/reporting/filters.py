"""Which positions are looked at, and what each counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd

from probing.analysis.deltas import per_carrier_weights
from probing.carriers.strata import CORRECT_LABELS
from probing.reporting.comparison import kind_column
from probing.reporting.happenings import event_column
from probing.settings import DEFAULT_ASSIGNMENT, require
from probing.vocabulary import (
    CONTENT_FREE_SELECTORS,
    Assignment,
    Event,
    Kind,
    PerPosition,
    PositionIds,
    PositionMask,
    Stratum,
)

WEIGHED_BY = (
    "headline",
    "selectors",
    "marker",
    "inclusion",
    "sampling_probability",
    "carrier",
)
"""Columns of a comparison that `weights` reads."""

HELD = "positions_held"
"""Column of how many positions a row stands for (see `cells`); without it a row is a position."""

HEADLINE = "headline"
"""Positions chosen by interval or random (or all): they do not select on content."""

EVERY = "every"
"""Every stored position, whatever chose it."""


class Average(StrEnum):
    """Over what means are taken."""

    POSITION = "position"
    CARRIER = "carrier"


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """Which positions carry a figure, and what each counts.

    Attributes:
        selector: `HEADLINE`, `EVERY`, or a lexicon group.
        average: every response token alike, or every carrier alike.
    """

    selector: str = HEADLINE
    average: Average = Average.POSITION


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is kept; an empty tuple keeps all.

    Attributes:
        length_bin, correct, generator, right_model, phase, token_class, subject, difficulty,
            source, sampling_temperature: labels as in the columns of these names.
        kind, event: by `assignment`.
        selector: as in `Weighting`.
        assignment: whose kind.
    """

    length_bin: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    event: tuple[str, ...] = ()
    correct: tuple[str, ...] = ()
    generator: tuple[str, ...] = ()
    right_model: tuple[str, ...] = ()
    phase: tuple[str, ...] = ()
    token_class: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    difficulty: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    sampling_temperature: tuple[str, ...] = ()
    selector: str = HEADLINE
    assignment: Assignment = DEFAULT_ASSIGNMENT


STRATUM_FILTERS = (
    Stratum.LENGTH,
    Stratum.CORRECT,
    Stratum.GENERATOR,
    Stratum.RIGHT,
    Stratum.PHASE,
    Stratum.TOKEN_CLASS,
    Stratum.SUBJECT,
    Stratum.DIFFICULTY,
    Stratum.SOURCE,
    Stratum.SAMPLING_TEMPERATURE,
)

FILTERED = (Stratum.KIND, Stratum.EVENT, *STRATUM_FILTERS)
"""What `Filters` can keep by."""


def filters_where(
    where: Mapping[str, str | Iterable[str]], *, assignment: Assignment = DEFAULT_ASSIGNMENT
) -> Filters:
    """Filters that keep a label, or any of several labels, of each stratum.

    Args:
        where: by stratum of `FILTERED`, one label or a list of them.
        assignment: whose kind, and whose event.

    Raises:
        UsageFault: no stratum that can be filtered, or no label.
    """
    known = sorted(stratum.value for stratum in FILTERED)
    chosen: dict[str, Any] = {}
    for stratum, wanted in where.items():
        require(stratum in known, f"where takes strata of {', '.join(known)}", stratum)
        several = isinstance(wanted, Iterable) and not isinstance(wanted, str)
        labels = tuple(wanted) if several else (wanted,)
        texts = bool(labels) and all(isinstance(label, str) for label in labels)
        require(texts, f"where takes a label of {stratum}, or a list of labels", wanted)
        chosen[str(stratum)] = tuple(str(label) for label in labels)
    return Filters(**chosen, assignment=assignment)


@dataclass(frozen=True)
class Counts:
    """How much a figure rests on."""

    positions: int
    carriers: int
    problems: int


def keep(comparison: pd.DataFrame, *, filters: Filters) -> pd.DataFrame:
    """The positions that pass every filter, in their order."""
    return comparison[kept(comparison, filters=filters)]


def kept(comparison: pd.DataFrame, *, filters: Filters) -> PositionMask:
    """Whether each position passes every filter."""
    mask = selected(comparison, selector=filters.selector)
    for column in STRATUM_FILTERS:
        wanted = getattr(filters, column.value)
        if wanted:
            mask = mask & comparison[column.value].isin(wanted).to_numpy()
    for labels, named in (
        (filters.kind, kind_column(filters.assignment)),
        (filters.event, event_column(filters.assignment)),
    ):
        if labels:
            mask = mask & comparison[named].isin(labels).to_numpy()
    return mask


def require_known(comparison: pd.DataFrame, *, filters: Filters) -> None:
    """Refuse labels that no position of the run can have: they would silently keep nothing.

    Raises:
        UsageFault: such a label; those there are are listed.
    """
    known = {stratum: options(comparison, stratum.value) for stratum in STRATUM_FILTERS}
    known |= {
        Stratum.KIND: [kind.value for kind in Kind],
        Stratum.EVENT: [event.value for event in Event],
    }
    for stratum, labels in known.items():
        for label in getattr(filters, stratum.value):
            require(label in labels, f"{stratum.value} takes {', '.join(labels)}", label)


def selected(comparison: pd.DataFrame, *, selector: str) -> PositionMask:
    """Whether a selector chose each position; see `Weighting`."""
    if selector == EVERY:
        return np.ones(len(comparison), dtype=bool)
    if selector == HEADLINE:
        return comparison["headline"].to_numpy(dtype=bool, copy=True)
    by_text = {text: selector in text.split() for text in comparison["selectors"].unique()}
    return comparison["selectors"].map(by_text).to_numpy(dtype=bool)


def count(comparison: pd.DataFrame) -> Counts:
    """Positions, carriers and problems of a comparison or of a part of it."""
    return Counts(
        positions=int(held(comparison).sum()),
        carriers=int(comparison["carrier"].nunique()),
        problems=int(comparison["problem_id"].nunique()),
    )


def options(comparison: pd.DataFrame, column: str) -> list[str]:
    """The values a filter can take, in a stable order."""
    values = comparison[[column, "response_tokens"]]
    if column == Stratum.LENGTH:
        return [
            str(label)
            for label in values.groupby(column)["response_tokens"].min().sort_values().index
        ]
    present = sorted(str(value) for value in values[column].unique())
    if column == Stratum.CORRECT:
        return [label for label in CORRECT_LABELS.values() if label in present]
    return present


def selector_options(selector_names: Sequence[str]) -> list[str]:
    """What `Weighting.selector` can be in a run with these selectors."""
    markers = [name for name in selector_names if name not in CONTENT_FREE_SELECTORS]
    return [HEADLINE, EVERY, *markers]


def held(comparison: pd.DataFrame) -> PositionIds:
    """How many positions each row stands for."""
    if HELD not in comparison:
        return np.ones(len(comparison), dtype=np.int64)
    return comparison[HELD].to_numpy(dtype=np.int64)


def weights(comparison: pd.DataFrame, *, weighting: Weighting) -> PerPosition:
    """Inverse probability that a position is there: of its carrier's sampling and of selection.

    Interval and random choose with probability `inclusion`; a lexicon group chooses each of its
    positions for certain; together they miss a position only if both do. Positions that the
    selector did not choose weigh 0.

    Under `Average.CARRIER` the weights of a carrier sum to its inverse sampling probability.

    Raises:
        UsageFault: a selector of no position and no known name.
    """
    chosen = selected(comparison, selector=weighting.selector)
    inclusion = comparison["inclusion"].to_numpy(dtype=np.float64)
    probability = inclusion
    if weighting.selector == EVERY:
        probability = np.where(comparison["marker"].to_numpy(dtype=bool), 1.0, inclusion)
    elif weighting.selector != HEADLINE:
        probability = np.ones(len(comparison))
    require(
        bool((probability[chosen] > 0).all()),
        "every chosen position needs an inclusion probability > 0",
        weighting.selector,
    )
    inverse = np.zeros(len(comparison))
    np.divide(1.0, probability, out=inverse, where=chosen)
    inverse *= held(comparison)
    sampling = comparison["sampling_probability"].to_numpy(dtype=np.float64)
    if weighting.average is Average.CARRIER:
        inverse = per_carrier_weights(inverse, comparison["carrier"].to_numpy())
    return np.asarray(inverse / sampling)
