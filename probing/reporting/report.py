"""A report on one run: verdict, evidence, deltas, events and examples, in the order of reading."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from probing.errors import NoCarriersLeft
from probing.reporting import charts, display, evidence, headlines, provenance, shares, tables
from probing.reporting.comparison import KIND_DECODING, settled_rule
from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import ALL
from probing.reporting.display import Column, bounded, number, signed, whole
from probing.reporting.document import (
    Block,
    Bullets,
    Card,
    Command,
    Excerpt,
    Facts,
    Form,
    Grid,
    Paragraph,
    Picture,
    Report,
    Section,
    Subheading,
    grid,
)
from probing.reporting.examples import Order
from probing.reporting.filters import keep
from probing.reporting.mechanism import Asked, Found, evidence_table, mechanism
from probing.reporting.provenance import Compared
from probing.reporting.quantities import QUANTITIES, delta_column
from probing.reporting.text import MARKS, visible
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, Stratum

TOP_SHOWN = 6
"""Tokens of each model that an example of a report lists."""


@dataclass(frozen=True)
class ExampleList:
    """Which positions are shown: of a kind or of any, at one end of a quantity's deltas."""

    title: str
    kind: Kind | None
    quantity: str
    order: Order


EXAMPLE_LISTS = (
    ExampleList("Locks: largest rise of top-1", Kind.LOCK, "top1_prob", Order.INCREASE),
    ExampleList("Locks: largest fall of top-1", Kind.LOCK, "top1_prob", Order.DECREASE),
    ExampleList("Forks: largest rise of top-1", Kind.FORK, "top1_prob", Order.INCREASE),
    ExampleList("Forks: largest fall of top-1", Kind.FORK, "top1_prob", Order.DECREASE),
    ExampleList("Largest KL", None, "kl_baseline_other", Order.INCREASE),
)


@dataclass(frozen=True)
class Material:
    """Every table that a report is made of.

    Attributes:
        run: the run.
        asked: what is asked of it; its rule is settled.
        compared: all positions under other, control, and their difference.
        found: evidence and verdict of other and control.
        evidence: the evidence as a table.
        headlines: delta tables of the headline quantities by kind, by assignment.
    """

    run: Run
    asked: Compared
    compared: Mapping[str, pd.DataFrame]
    found: Mapping[str, Found]
    evidence: pd.DataFrame
    headlines: Mapping[Assignment, pd.DataFrame]

    @property
    def deltas(self) -> pd.DataFrame:
        """Headline deltas by kind, kinds by the default assignment."""
        return self.headlines[self.asked.filters.assignment]


def material(run: Run, *, asked: Compared) -> Material:
    """Work out every table of a report.

    Raises:
        UsageFault: the run has no such model.
        NoCarriersLeft: no position carries figures.
        OutsideContract: a temperature or top-k that the run cannot answer.
    """
    compared = tables.all_comparisons(
        run, other=asked.other, control=asked.control, decoding=asked.decoding, rule=asked.rule
    )
    if keep(compared[asked.other], filters=asked.filters).empty:
        raise NoCarriersLeft(
            "a report rests on positions chosen by interval, random or all, got none in "
            f"{run.location}; score with one of them"
        )
    question = Asked(training=asked.training, rule=asked.rule, weighting=asked.weighting)
    found = {name: mechanism(run, name, asked=question) for name in asked.others}
    return Material(
        run=run,
        asked=replace(asked, rule=settled_rule(run, asked.rule)),
        compared=compared,
        found=found,
        evidence=evidence_table(found, asked=question),
        headlines=headlines.headline_tables(
            compared, filters=asked.filters, weighting=asked.weighting
        ),
    )


def report(run: Run, *, asked: Compared, target: str) -> Report:
    """The whole report, as plain texts and tables; the same run and question give the same.

    Args:
        run: the run.
        asked: what is asked of it.
        target: name of the file it will be written to: part of the command that makes it again.

    Raises:
        UsageFault: the run has no such model.
        NoCarriersLeft: no position carries figures.
        OutsideContract: a temperature or top-k that the run cannot answer.
    """
    made = material(run, asked=asked)
    verdicts = [f"{name}: {one.verdict.mechanism}" for name, one in made.found.items()]
    return Report(
        title=f"{asked.other} against {run.model_names[0]}",
        lead=f"Token by token, what training did. Verdict on {'; on '.join(verdicts)}.",
        sections=(
            _compared(made),
            _verdict(made),
            _evidence(made),
            _deltas(made),
            _assignments(made),
            _transitions(made),
            _events(made),
            _examples(made),
            _limits(made),
            _again(made, target=target),
        ),
    )


def _compared(made: Material) -> Section:
    rows = provenance.facts(
        made.run, made.compared[made.asked.other], asked=made.asked, kind_decoding=KIND_DECODING
    )
    return Section(
        anchor="compared",
        title="What was compared",
        question="Which models, on which text, under which settings?",
        blocks=(Facts(rows),),
    )


def _verdict(made: Material) -> Section:
    cards = [
        Card(name, str(one.verdict.mechanism), one.verdict.rule) for name, one in made.found.items()
    ]
    sentences = tuple(
        (evidence.TITLES[figure], evidence.sentence(made.evidence, figure))
        for figure in dict.fromkeys(made.evidence["figure"])
    )
    return Section(
        anchor="verdict",
        title="Verdict",
        question="What did training do?",
        blocks=(*cards, Facts(sentences)),
    )


EVIDENCE_ORDER = (
    "figure", "comparison", "estimate", "interval", "reads", "null_exchange", "null_drift",
    "p_adjusted", "detectable",
)  # fmt: skip
"""Columns of the evidence; what is predicted has a table of its own."""


def _evidence(made: Material) -> Section:
    order = {name: place for place, name in enumerate(dict.fromkeys(made.evidence["figure"]))}
    places = made.evidence["figure"].map(order).argsort(kind="stable")
    labels = evidence.EVIDENCE_LABELS
    shown = evidence.shown_evidence(made.evidence.iloc[places])
    named = shown.rename(columns={column.label: name for name, column in labels.items()})
    table = grid(
        named,
        title="Every figure, and what it would be without an effect",
        labels={name: labels[name] for name in EVIDENCE_ORDER},
        forms=dict.fromkeys(
            ("estimate", "interval", "null_exchange", "null_drift", "p_adjusted", "detectable"),
            Form.NUMBER,
        ),
        texts={},
    )
    predicted = made.evidence.iloc[places].groupby(["figure", "prediction"], sort=False)[COMPARISON]
    of = predicted.agg(", ".join).reset_index()
    predictions = grid(
        of.assign(figure=of["figure"].map(evidence.TITLES)),
        title="What self-distillation predicts",
        labels={name: labels[name] for name in ("figure", "prediction", COMPARISON)},
        forms={},
        texts={},
    )
    pictures = [
        Picture(evidence.TITLES[figure], charts.evidence_chart(made.evidence, figure=figure))
        for figure in evidence.CHARTED
    ]
    return Section(
        anchor="evidence",
        title="Evidence",
        question="How large is each figure, and how large would it be without an effect?",
        blocks=(
            Paragraph(
                "Every figure stands beside two nulls: what selection alone gives with the models' "
                "roles exchanged, and what noise gives that costs as much KL (drift). A direction "
                "is claimed only beyond both: Reads tells on which side of its nulls a figure lies, "
                "not of 0. Detectable is the smallest effect that would be "
                "found four times in five; p is Holm-adjusted over the verdict's family."
            ),
            table,
            *pictures,
            Paragraph(
                "Dot: estimate; bar: 95 % interval over problems; long tick: exchange null; short "
                "tick: drift null; dashed: zero.",
                note=True,
            ),
            predictions,
        ),
    )


DELTA_COLUMNS = ("kind", COMPARISON, "baseline", "delta", "interval", "null")
DELTA_COLUMNS_LAST = ("positions", "problems")
INTERVAL = Column("95 % interval", "Whole problems are resampled.")
BY_KIND = [Stratum.KIND.value]


def _interval(table: pd.DataFrame) -> list[str]:
    ends = zip(table["low"], table["high"], strict=True)
    return [display.interval_shown(f"{signed(low)} to {signed(high)}") for low, high in ends]


def delta_grid(table: pd.DataFrame, *, quantity: str) -> Grid:
    """Deltas of one quantity by kind, the comparisons of a kind together.

    Args:
        table: of `delta_tables` by kind.
        quantity: which of its quantities.
    """
    own = display.printed_deltas(table[table["quantity"] == quantity], by=BY_KIND)
    known = display.delta_labels(BY_KIND) | {"interval": INTERVAL}
    return grid(
        own.assign(interval=_interval(own)),
        title=f"{QUANTITIES[quantity].label} by kind: change, interval and null",
        labels={name: known[name] for name in (*DELTA_COLUMNS, *DELTA_COLUMNS_LAST)},
        forms=dict.fromkeys((*DELTA_COLUMNS[2:], *DELTA_COLUMNS_LAST), Form.NUMBER)
        | {"kind": Form.KIND},
        texts=display.DELTA_FORMATS | {"positions": whole, "problems": whole},
    )


def _deltas(made: Material) -> Section:
    blocks: list[Block] = [
        Paragraph(headlines.sentence(made.headlines, other=made.asked.other)),
    ]
    for quantity in dict.fromkeys(made.deltas["quantity"]):
        blocks += [
            Subheading(QUANTITIES[quantity].label),
            Paragraph(QUANTITIES[quantity].explanation, note=True),
            Picture(
                f"{QUANTITIES[quantity].label} by kind: change",
                charts.delta_chart(made.deltas, quantity=quantity, by=BY_KIND),
                wide=True,
            ),
            delta_grid(made.deltas, quantity=quantity),
        ]
    blocks.append(
        Paragraph(
            f"In the charts: {charts.legend_text(list(made.compared))}; bar: 95 % interval. "
            "Null: what the delta would be by selection alone, with the models' roles exchanged; "
            "by the mean's kinds it is 0 by symmetry. "
            "Each comparison has positions of its own, by the kinds of its own pair; the "
            "difference takes kinds from the mean over all models, and its baseline is the "
            "control.",
            note=True,
        )
    )
    return Section(
        anchor="deltas",
        title="Deltas by kind",
        question="Did training sharpen locks and keep forks open?",
        blocks=tuple(blocks),
    )


def assignment_grid(by_assignment: Mapping[Assignment, pd.DataFrame]) -> Grid:
    """The headline deltas, side by side under each of the three assignments.

    Args:
        by_assignment: of `headlines.headline_tables`.
    """
    rows = []
    for kind, quantity, label in headlines.HEADLINES:
        for name in dict.fromkeys(by_assignment[Assignment.MEAN][COMPARISON]):
            row = {"headline": label, COMPARISON: str(name)}
            for assignment, table in by_assignment.items():
                own = headlines.headline_row(table, str(name), kind, quantity)
                row[f"delta_{assignment}"] = bounded(own["delta"], own["low"], own["high"])
                row[f"null_{assignment}"] = signed(own["null"])
            rows.append(row)
    labels = {
        "headline": Column("Figure", "Which quantity at which kind."),
        COMPARISON: display.DELTA_LABELS[COMPARISON],
    }
    for assignment in by_assignment:
        labels |= {
            f"delta_{assignment}": Column(f"By {assignment}", "Delta [95 % interval]."),
            f"null_{assignment}": Column(f"Null by {assignment}", "By selection alone."),
        }
    return grid(
        pd.DataFrame(rows),
        title="Headline deltas under the three assignments",
        labels=labels,
        forms={name: Form.NUMBER for name in labels if name not in ("headline", COMPARISON)},
        texts={},
    )


def _assignments(made: Material) -> Section:
    kept = keep(made.compared[made.asked.other], filters=made.asked.filters)
    kinds = tables.kind_shares(kept, weighting=made.asked.weighting)
    wide = kinds.pivot_table(index="assignment", columns="kind", values="share", sort=False)
    shown = wide.rename_axis(None, axis=1).reset_index()
    return Section(
        anchor="assignments",
        title="The three assignments",
        question="Does it hang on whose distribution names the kind?",
        blocks=(
            Paragraph(
                "A position is a lock or a fork by the mean of the two models' log-distributions "
                "(as everywhere else here), by the baseline's, or by the other's. A direction is "
                "claimed only where all three agree beyond their nulls. The difference of two "
                "others takes its kinds from the mean over all models, so it is the same under "
                "all three."
            ),
            assignment_grid(made.headlines),
            Subheading("How many of each kind"),
            Picture("Share of positions of each kind", charts.shares_chart(kinds), wide=True),
            grid(
                shown,
                title="Share of positions of each kind, by assignment",
                labels={"assignment": display.DELTA_LABELS["assignment"]}
                | {kind.value: Column(kind.value.capitalize(), "Weighted share.") for kind in Kind},
                forms=dict.fromkeys([kind.value for kind in Kind], Form.NUMBER),
                texts=dict.fromkeys([kind.value for kind in Kind], display.percent),
            ),
        ),
    )


def _shares_grid(table: pd.DataFrame, *, title: str, labels: Mapping[str, Column]) -> Grid:
    """A table of shares as text: the comparisons of a row together."""
    printed = shares.printed_shares(table)
    known = dict(labels) | {COMPARISON: display.DELTA_LABELS[COMPARISON]}
    names = [str(name) for name in printed.columns]
    kinds = dict.fromkeys(("kind", "baseline", "other"), Form.KIND)
    figures = dict.fromkeys((*shares.SHARES, "positions"), Form.NUMBER)
    return grid(
        printed, title=title, labels={n: known[n] for n in names}, forms=kinds | figures, texts={}
    )


def _transitions(made: Material) -> Section:
    table = tables.transition_tables(
        made.compared, filters=made.asked.filters, weighting=made.asked.weighting
    )
    drawn = charts.transition_charts(table)
    return Section(
        anchor="transitions",
        title="From kind to kind",
        question="Which positions changed their kind?",
        blocks=(
            *(
                Picture(f"From the kind under the baseline to that under {name}", chart)
                for name, chart in drawn.items()
            ),
            _shares_grid(
                table,
                title="Kind under the baseline and under the other model",
                labels=shares.TRANSITION_LABELS | shares.EVENT_LABELS,
            ),
            Paragraph(
                "Share: weighted, of all positions; of the difference, other less control.",
                note=True,
            ),
        ),
    )


def _events(made: Material) -> Section:
    table = tables.event_tables(
        made.compared, filters=made.asked.filters, weighting=made.asked.weighting
    )
    alike = shares.symmetry_text(made.asked.filters)
    return Section(
        anchor="events",
        title="Events",
        question="What happened to each position?",
        blocks=(
            Paragraph(
                "One event per position, by the mean of the two models. Null: the mean of the "
                "share and of that with the models' roles exchanged; by symmetry: it is the share "
                f"itself{f', since {alike}' if alike else ''}. The post's strict lock includes "
                f"softened: {shares.both_sums(table)}."
            ),
            _shares_grid(table, title="Events", labels=shares.EVENT_LABELS),
        ),
    )


def chosen_positions(made: Material, which: ExampleList) -> pd.DataFrame:
    """The first positions of a list of examples; only those that moved in its direction."""
    kinds = () if which.kind is None else (which.kind.value,)
    kept = keep(made.compared[made.asked.other], filters=replace(made.asked.filters, kind=kinds))
    ranked = tables.ranked_positions(kept, by=which.quantity, order=which.order)
    values = ranked[delta_column(which.quantity)]
    right = values < 0 if which.order is Order.DECREASE else values > 0
    return ranked[right].head(made.asked.examples)


def _examples(made: Material) -> Section:
    blocks: list[Block] = []
    for which in EXAMPLE_LISTS:
        blocks.append(Subheading(which.title))
        chosen = chosen_positions(made, which)
        if chosen.empty:
            blocks.append(Paragraph("No position moved so.", note=True))
        for _, position in chosen.iterrows():
            blocks += _example(made, position, quantity=which.quantity)
    return Section(
        anchor="examples",
        title="Examples",
        question="What happened, at which token?",
        blocks=(
            Paragraph(
                "The extremes of each list. In a token, ␣ is a space, ↵ a line break, ⇥ a tab and "
                "\\x.. a byte that is no text by itself. Truncated: the probability after top-k "
                "and top-p. Moved: ranks that the other's token moved up (+) or down (−)."
            ),
            *blocks,
        ),
    )


def _example(made: Material, position: pd.Series, *, quantity: str) -> tuple[Block, ...]:
    row = int(position["row"])
    before, _, rest = tables.shown_context(made.run, row).partition(MARKS[0])
    token, _, after = rest.partition(MARKS[1])
    table = tables.example_table(
        made.run, row, other=made.asked.other, decoding=made.asked.decoding, top=TOP_SHOWN
    )
    moved = f"{QUANTITIES[quantity].label}: {signed(position[delta_column(quantity)])}"
    if made.asked.control is not None:
        beside = made.compared[made.asked.control].set_index("row").loc[row]
        moved += f", under {made.asked.control} {signed(beside[delta_column(quantity)])}"
    return (
        Paragraph(f"{display.event_text(position)}. {moved}."),
        Paragraph(display.place_text(position), note=True),
        Excerpt(before, token, after),
        example_grid(table),
    )


def example_grid(table: pd.DataFrame) -> Grid:
    """Both models' top tokens side by side.

    Args:
        table: of `example_table`.
    """
    labels = display.example_labels(table)
    texts = {"rank": str, "other_baseline_rank": whole, "rank_change": display.moved}
    for name in labels:
        if name.endswith("_token"):
            texts[name] = lambda token: "" if pd.isna(token) else visible(str(token))
        elif name.endswith("_kept_prob"):
            texts[name] = display.kept
        elif name.endswith("_prob"):
            texts[name] = number
    tokens = {name: Form.TOKEN for name in labels if name.endswith("_token")}
    return grid(
        table,
        title="Top tokens of both models",
        labels=labels,
        forms=dict.fromkeys(labels, Form.NUMBER) | tokens,
        texts=texts,
    )


def _limits(made: Material) -> Section:
    items = provenance.limits(
        made.run,
        made.compared[made.asked.other],
        asked=made.asked,
        tables={"Deltas by kind": made.deltas},
    )
    return Section(
        anchor="limits",
        title="Limits",
        question="What cannot be concluded?",
        blocks=(Bullets(items),),
    )


def _again(made: Material, *, target: str) -> Section:
    return Section(
        anchor="again",
        title="This report again",
        question="How is it made?",
        blocks=(
            Paragraph("In the folder that holds the run:"),
            Command(provenance.command(made.run, asked=made.asked, target=target)),
            Facts(
                (
                    ("Run fingerprint", made.run.fingerprint),
                    ("Package", f"ssd-probing {provenance.package_version()}"),
                )
            ),
            Paragraph(
                "The same command on the same run gives the same bytes: no time of day stands in "
                "here.",
                note=True,
            ),
        ),
    )


__all__ = ["ALL", "EXAMPLE_LISTS", "Compared", "Material", "material", "report"]
