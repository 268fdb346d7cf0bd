"""Events of every position of a pair, by each assignment, also with the two models exchanged."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int

from probing.analysis.events import PairKinds, events, leading_words, signs
from probing.analysis.kinds import KindCodes
from probing.analysis.ranking import leading_ids
from probing.analysis.side_by_side import side_by_side
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

    def of_block(rows: PositionIds) -> _EventBlock:
        pair = [run.distributions(name, rows=rows) for name in (run.model_names[0], other)]
        words = [
            leading_words(one, tokens=tokens, temperature=kind_decoding.temperature, rule=rule)
            for one in pair
        ]
        seen = signs(*words, realised_correction=realised[rows])
        own, change = kinds.part(rows), entropy_change[rows]
        codes: dict[str, PositionIds] = {}
        for assignment in Assignment:
            for column, sides, moved in (
                (event_column(assignment), own, change),
                (exchanged_event_column(assignment), own.exchanged(), -change),
            ):
                assigned = PairKinds(sides.by(assignment), sides.baseline, sides.other)
                codes[column] = events(assigned, seen, entropy_change=moved)
        return _EventBlock(codes, [leading_ids(one, count=2) for one in pair])

    blocks = side_by_side(of_block, run.row_blocks())
    columns: dict[str, pd.Categorical[str] | PositionMask] = {
        column: labelled(np.concatenate([block.codes[column] for block in blocks]), EVENT_NAMES)
        for column in blocks[0].codes
    }
    first, second = (
        shared_prefix(run, np.concatenate([block.leading[side] for block in blocks]))
        for side in (0, 1)
    )
    columns["shared_prefix"] = first | second
    return columns


class _EventBlock(NamedTuple):
    """Codes by column, and two leading ids of each model; of a block of positions."""

    codes: dict[str, PositionIds]
    leading: list[Int[np.ndarray, "position 2"]]
