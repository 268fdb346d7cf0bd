"""A report on one run: verdict, evidence, deltas, events and examples, in the order of reading."""

from probing.reporting import charts, display, evidence, headlines, provenance, shares, tables
from probing.reporting.comparison import KIND_DECODING
from probing.reporting.display import Column
from probing.reporting.document import (
    Block,
    Bullets,
    Card,
    Command,
    Facts,
    Form,
    Paragraph,
    Picture,
    Report,
    Section,
    Subheading,
    grid,
)
from probing.reporting.filters import keep
from probing.reporting.predictions import evidence_notes
from probing.reporting.provenance import Compared
from probing.reporting.quantities import QUANTITIES
from probing.reporting.report_examples import examples_section
from probing.reporting.report_material import Material, material
from probing.reporting.report_mechanism import settings_section, target_section, texts_section
from probing.reporting.report_tables import (
    BY_KIND,
    assignment_grid,
    delta_grid,
    evidence_grid,
    prediction_grid,
    shares_grid,
)
from probing.store.reader import Run
from probing.vocabulary import Kind


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
    verdicts = [f"{name}: {one.verdict.mechanism}" for name, one in made.found.models.items()]
    return Report(
        title=f"{asked.other} against {run.model_names[0]}",
        lead=f"Token by token, what training did. Verdict on {'; on '.join(verdicts)}.",
        sections=(
            _compared(made),
            _verdict(made),
            _evidence(made),
            target_section(made),
            *texts_section(made),
            settings_section(made),
            _deltas(made),
            _assignments(made),
            _transitions(made),
            _events(made),
            examples_section(made),
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
        Card(name, str(one.verdict.mechanism), one.verdict.rule)
        for name, one in made.found.models.items()
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


def _evidence(made: Material) -> Section:
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
                "is claimed only beyond both: Reads tells on which side of its nulls a figure "
                "lies, not of 0. Detectable is the smallest effect that would be found four times "
                "in five."
            ),
            evidence_grid(made.evidence),
            Bullets(tuple(evidence_notes(made.evidence, found=made.found, asked=made.question))),
            *pictures,
            Paragraph(
                "Dot: estimate; bar: 95 % interval over problems; long tick: exchange null; short "
                "tick: drift null; dashed: zero.",
                note=True,
            ),
            prediction_grid(made.evidence),
        ),
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
            f"In the charts: {charts.legend_text(list(made.compared), drift=True)}; bar: 95 % "
            "interval. Null: what the delta would be by selection alone, with the models' roles "
            "exchanged; by the mean's kinds it is 0 by symmetry. Null, drift: what noise gives "
            f"that costs as much KL. {f'{made.drift.note}. ' if made.drift.note else ''}"
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
                "claimed only where all three agree beyond both nulls. The difference of two "
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
            shares_grid(
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
            shares_grid(table, title="Events", labels=shares.EVENT_LABELS),
        ),
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
