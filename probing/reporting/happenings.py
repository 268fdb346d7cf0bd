"""Events of every position of a pair, by each assignment, also with the two models exchanged."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probing.analysis.events import PairKinds, events
from probing.analysis.kinds import KindCodes
from probing.settings import Decoding, KindRule
from probing.store.facts import pair_facts
from probing.store.reader import Run
from probing.vocabulary import Assignment, Event, PerPosition, PositionIds, PositionMask

EVENT_NAMES = [event.value for event in Event]


def labelled(codes: PositionIds, names: Sequence[str]) -> "pd.Categorical[str]":
    """Codes as labels; every name is a category, in order."""
    found: pd.Categorical[str] = pd.Categorical.from_codes(
        np.asarray(codes, dtype=np.int64), categories=pd.Index(names)
    )
    return found


def event_column(assignment: Assignment) -> str:
    """Column of a comparison that holds the event by this assignment."""
    return f"event_{assignment}"


def exchanged_event_column(assignment: Assignment) -> str:
    """Column with the event that the pair would have in exchanged roles."""
    return f"exchanged_event_{assignment}"


def event_columns(
    run: Run,
    other: str,
    *,
    kinds: KindCodes,
    entropy_change: PerPosition,
    rule: KindRule,
    kind_decoding: Decoding,
) -> dict[str, "pd.Categorical[str] | PositionMask"]:
    """`event_*` and `exchanged_event_*` by each assignment, and `shared_prefix`.

    Args:
        run: the run.
        other: name of the model compared with the baseline.
        kinds: of every position.
        entropy_change: other - baseline, at `kind_decoding`.
        rule: says which tokens are close.
        kind_decoding: under which the kinds were taken.
    """
    facts = pair_facts(run, other, temperature=kind_decoding.temperature, rule=rule)
    columns: dict[str, pd.Categorical[str] | PositionMask] = {}
    for assignment in Assignment:
        for column, sides, moved in (
            (event_column(assignment), kinds, entropy_change),
            (exchanged_event_column(assignment), kinds.exchanged(), -entropy_change),
        ):
            assigned = PairKinds(sides.by(assignment), sides.baseline, sides.other)
            codes = events(assigned, facts.signs, entropy_change=moved)
            columns[column] = labelled(codes, EVENT_NAMES)
    columns["shared_prefix"] = facts.shared_prefix
    return columns
