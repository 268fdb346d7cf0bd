"""Questions to a run, as commands and notebooks ask them: which models, settings and positions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pandas as pd

from probing.reporting import tables
from probing.reporting.comparison import settled_rule
from probing.reporting.contrasts import COMPARISON, Models, models_beside
from probing.reporting.display import event_text, place_text
from probing.reporting.document import Block, Bullets, Card, Excerpt, Grid, Paragraph
from probing.reporting.drifting import BY_KIND_ALONE, DriftAsked, stands_beside
from probing.reporting.filters import Filters, keep, require_known
from probing.reporting.mechanism import Asked, Findings
from probing.reporting.remaking import Ranking
from probing.reporting.report_tables import evidence_grid, example_grid
from probing.reporting.shown import Shown
from probing.reporting.text import MARKS
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


class Noted(NamedTuple):
    """A table, and what is to be said of its drift null; empty where there is nothing to say."""

    table: pd.DataFrame
    note: str


def beside_drift(
    run: Run, question: Question, answered: Answer, found: pd.DataFrame, *, by: Sequence[str]
) -> Noted:
    """A table of deltas with the drift null beside the other, where its grouping has one.

    Args:
        run: the run.
        question: as of `answer`.
        answered: its answer.
        found: of `delta_tables` or `assignment_tables`.
        by: the strata that it groups by; those of assignments are by kind.
    """
    if not stands_beside(by):
        return Noted(found, BY_KIND_ALONE)
    asked = DriftAsked(
        other=answered.models.other,
        control=answered.models.control,
        decoding=question.decoding,
        rule=answered.rule,
        filters=question.filters,
    )
    null = tables.drift_null(run, asked)
    table = tables.with_drift(found, null, assignment=question.filters.assignment)
    return Noted(table, null.note)


@dataclass(frozen=True, repr=False, eq=False)
class Example(Shown):
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

    def blocks(self) -> tuple[Block, ...]:
        """As a report shows it."""
        before, _, rest = self.context.partition(MARKS[0])
        token, _, after = rest.partition(MARKS[1])
        return (
            Paragraph(f"{self.event}."),
            Paragraph(self.place, note=True),
            Excerpt(before, token, after),
            example_grid(self.table),
        )


@dataclass(frozen=True, repr=False, eq=False)
class Examples(Shown):
    """Positions in the order in which they are offered; a sequence.

    Attributes:
        found: one by one.
        table: top tokens of all of them, one under the other, with `row` and `carrier_id` last.
    """

    found: tuple[Example, ...]
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.found)

    def __getitem__(self, place: int) -> Example:
        return self.found[place]

    def blocks(self) -> tuple[Block, ...]:
        """As a report shows them."""
        if not self.found:
            return (Paragraph("No position is left in which this is measured."),)
        return tuple(block for each in self.found for block in each.blocks())


def examples(run: Run, question: Question, *, ranking: Ranking, count: int) -> Examples:
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
    found = tuple(
        _example(run, position, models=models, decoding=question.decoding)
        for _, position in ranked.head(count).iterrows()
    )
    parts = [each.table.assign(row=each.row, carrier_id=each.carrier_id) for each in found]
    return Examples(found, pd.concat(parts, ignore_index=True) if parts else pd.DataFrame())


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


@dataclass(frozen=True, repr=False, eq=False)
class ModelVerdict(Shown):
    """What training did to one model.

    Attributes:
        name: of the model.
        mechanism: in a word.
        rule: what that word rests on.
        evidence: of `evidence_table`, its rows.
        notes: what a reader of it must know.
    """

    name: str
    mechanism: str
    rule: str
    evidence: pd.DataFrame
    notes: tuple[str, ...]

    def blocks(self) -> tuple[Block, ...]:
        """As a report shows it."""
        return (
            Card(self.name, self.mechanism, self.rule),
            _primary_grid(self.evidence),
            Bullets(self.notes),
        )


@dataclass(frozen=True, repr=False, eq=False)
class Judgement(Shown):
    """What training did to the model looked at and to its control, by the rules of the verdict.

    Attributes:
        found: figures and verdict of each.
        evidence: of `evidence_table`: each model, then their difference.
        notes: what a reader of it must know.
    """

    found: Findings
    evidence: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def models(self) -> dict[str, ModelVerdict]:
        """By name, the one looked at first."""
        return {
            name: ModelVerdict(
                name=name,
                mechanism=str(one.verdict.mechanism),
                rule=one.verdict.rule,
                evidence=self.evidence[self.evidence[COMPARISON] == name],
                notes=self.notes,
            )
            for name, one in self.found.models.items()
        }

    @property
    def mechanism(self) -> str:
        """Of the model looked at, in a word."""
        return next(iter(self.models.values())).mechanism

    @property
    def rule(self) -> str:
        """What that word rests on."""
        return next(iter(self.models.values())).rule

    def blocks(self) -> tuple[Block, ...]:
        """As a report shows it."""
        cards = [Card(name, one.mechanism, one.rule) for name, one in self.models.items()]
        return (*cards, _primary_grid(self.evidence), Bullets(self.notes))


def _primary_grid(evidence: pd.DataFrame) -> Grid:
    """Of the evidence, the contrasts that were named beforehand."""
    shown = evidence_grid(evidence[evidence["primary"] != ""])
    return replace(shown, title="Primary contrasts; every figure is in `evidence`")


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
    return Judgement(found, table, tuple(notes))


def incomplete_text(run: Run) -> str:
    """How much of a run that is being scored can be read."""
    units = f"{len(run.committed)} of {len(run.plan.units)} units"
    return f"{run.location} is incomplete: {units} are scored"
