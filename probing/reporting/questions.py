"""Questions to a run, as commands and notebooks ask them: which models, settings and positions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from probing.reporting import tables
from probing.reporting.comparison import settled_rule
from probing.reporting.contrasts import Models, models_beside
from probing.reporting.display import event_text, place_text
from probing.reporting.filters import Filters, keep, require_known
from probing.reporting.mechanism import Asked, Findings
from probing.reporting.remaking import Ranking
from probing.settings import Decoding, KindRule
from probing.store.reader import Run


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a run.

    Attributes:
        other: the model looked at; the first when left out.
        control: the model beside it; the one named `control`, where there is one.
        decoding: of every figure.
        rule: thresholds of the kinds.
        filters: which positions are kept, and whose kind counts.
    """

    other: str | None = None
    control: str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    rule: KindRule = field(default_factory=KindRule)
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True)
class Answer:
    """What tables are made of.

    Attributes:
        models: those that were looked at.
        rule: of the question, with the cut of its forks where it needs one.
        compared: of `all_comparisons`.
    """

    models: Models
    rule: KindRule
    compared: dict[str, pd.DataFrame]


def answer(run: Run, question: Question) -> Answer:
    """Every comparison that the question is about.

    Raises:
        UsageFault: no such model, or a label that no position has.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    models = models_beside(run, other=question.other, control=question.control)
    rule = settled_rule(run, question.rule)
    compared = tables.all_comparisons(
        run, other=models.other, control=models.control, decoding=question.decoding, rule=rule
    )
    require_known(compared[models.other], filters=question.filters)
    return Answer(models, rule, compared)


@dataclass(frozen=True)
class Example:
    """One position.

    Attributes:
        row: of the run.
        carrier_id: of its response.
        position: of the token in it, from 0.
        event: what happened there, in words.
        place: where it is, in words.
        context: the text around the token, which stands between marks.
        table: of `example_table`.
    """

    row: int
    carrier_id: str
    position: int
    event: str
    place: str
    context: str
    table: pd.DataFrame


def examples(run: Run, question: Question, *, ranking: Ranking, count: int) -> tuple[Example, ...]:
    """The first positions of a ranking, among those that carry figures and pass the filters.

    Raises:
        UsageFault: no such model, or a label that no position has.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    models = models_beside(run, other=question.other, control=question.control)
    comparison = tables.comparison_table(
        run, other=models.other, decoding=question.decoding, rule=question.rule
    )
    require_known(comparison, filters=question.filters)
    kept = keep(comparison, filters=question.filters)
    ranked = tables.ranked_positions(kept, by=ranking.by, order=ranking.order, seed=ranking.seed)
    return tuple(
        _example(run, position, models=models, decoding=question.decoding)
        for _, position in ranked.head(count).iterrows()
    )


def _example(run: Run, position: pd.Series, *, models: Models, decoding: Decoding) -> Example:
    row = int(position["row"])
    return Example(
        row=row,
        carrier_id=str(position["carrier_id"]),
        position=int(position["position"]),
        event=event_text(position),
        place=place_text(position),
        context=tables.shown_context(run, row),
        table=tables.example_table(
            run, row, other=models.other, control=models.control, decoding=decoding
        ),
    )


def examples_table(found: Sequence[Example]) -> pd.DataFrame:
    """Top tokens of every example, one under the other, with `row` and `carrier_id` last."""
    parts = [each.table.assign(row=each.row, carrier_id=each.carrier_id) for each in found]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


@dataclass(frozen=True)
class Judgement:
    """What training did, by the rules of the verdict.

    Attributes:
        models: those that were looked at.
        found: figures and verdict of each.
        evidence: of `evidence_table`.
        notes: what a reader of it must know.
    """

    models: Models
    found: Findings
    evidence: pd.DataFrame
    notes: tuple[str, ...]


def judge(
    run: Run, *, asked: Asked, other: str | None = None, control: str | None = None
) -> Judgement:
    """The verdict on one other model, and on a control beside it.

    Raises:
        UsageFault: no such model, or a label that no position has.
        NoCarriersLeft: no position passes the filters.
        OutsideContract: the run cannot tell what this training kept.
    """
    models = models_beside(run, other=other, control=control)
    require_known(tables.places_beside(run, models.other), filters=asked.filters)
    found = tables.mechanism(run, models.names, asked=asked)
    table = tables.evidence_table(found, asked=asked)
    notes = tables.evidence_notes(table, found=found, asked=asked)
    return Judgement(models, found, table, tuple(notes))


def incomplete_text(run: Run) -> str:
    """How much of a run that is being scored can be read."""
    units = f"{len(run.committed)} of {len(run.plan.units)} units"
    return f"{run.location} is incomplete: {units} are scored"
