"""Events of every position of a pair, by each assignment, also with the two models exchanged."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probing.analysis.events import PairKinds, events, leading_words
from probing.analysis.kinds import KindCodes
from probing.analysis.ranking import leading_ids
from probing.reporting.words import lexicon_tokens, realised_corrections, shared_prefix
from probing.settings import Decoding, KindRule
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
    tokens, realised = lexicon_tokens(run), realised_corrections(run)
    codes: dict[str, list[PositionIds]] = {}
    alike: list[PositionMask] = []
    for rows in run.row_blocks():
        pair = [run.distributions(name, rows=rows) for name in (run.model_names[0], other)]
        words = [
            leading_words(one, tokens=tokens, temperature=kind_decoding.temperature, rule=rule)
            for one in pair
        ]
        own, change = kinds.part(rows), entropy_change[rows]
        for assignment in Assignment:
            for column, sides, (first, second), moved in (
                (event_column(assignment), own, words, change),
                (exchanged_event_column(assignment), own.exchanged(), words[::-1], -change),
            ):
                found = events(
                    PairKinds(sides.by(assignment), sides.baseline, sides.other),
                    baseline=first,
                    other=second,
                    realised_correction=realised[rows],
                    entropy_change=moved,
                )
                codes.setdefault(column, []).append(found)
        alike.append(np.logical_or(*(shared_prefix(run, leading_ids(o, count=2)) for o in pair)))
    columns: dict[str, pd.Categorical[str] | PositionMask] = {
        column: labelled(np.concatenate(parts), EVENT_NAMES) for column, parts in codes.items()
    }
    columns["shared_prefix"] = np.concatenate(alike)
    return columns
