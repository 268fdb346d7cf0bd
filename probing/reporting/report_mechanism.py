"""Sections of a report beyond its evidence: the way to the target, T*, curves, settings."""

from collections.abc import Mapping, Sequence

import pandas as pd

from probing.reporting import evidence, tables
from probing.reporting import mechanism_charts as drawing
from probing.reporting.charts import ENOUGH_PROBLEMS
from probing.reporting.curves import MATCHED_QUANTITIES, CurvesAsked, curve_tables
from probing.reporting.display import Column
from probing.reporting.document import Block, Form, Grid, Paragraph, Picture, Section, grid
from probing.reporting.quantities import QUANTITIES
from probing.reporting.report_material import Material

PROGRESS_SHOWN = (
    "comparison", "kind", "event", "share", "support", "support_nulls", "within", "within_nulls",
    "problems",
)  # fmt: skip


def target_section(made: Material) -> Section:
    """How far towards the target, and what a change of temperature leaves."""
    progress, beside = (
        pd.concat(
            [
                builder(made.run, name, one, asked=made.question).assign(comparison=name)
                for name, one in made.found.models.items()
            ],
            ignore_index=True,
        )
        for builder in (tables.progress_table, tables.beside_temperature)
    )
    return Section(
        anchor="target",
        title="Towards the target, or only warmer",
        question="How far did each kind come, and was it a change of temperature?",
        blocks=(
            Paragraph(
                "The fall of the cross-entropy to the target is exactly the sum of its two parts. "
                "Any noise moves away from the target, so each part is read beside its nulls; the "
                f"direction is told by the slope. Events of at least {ENOUGH_PROBLEMS} problems."
            ),
            _grid(
                evidence.shown_progress(progress[progress["problems"] >= ENOUGH_PROBLEMS]),
                {name: evidence.PROGRESS_LABELS[name] for name in PROGRESS_SHOWN},
                title="Progress towards the target, by kind and event",
                texts=("comparison", "kind", "event"),
            ),
            *(
                Paragraph(evidence.temperature_sentence(name, one.evidence.temperature))
                for name, one in made.found.models.items()
            ),
            _grid(
                evidence.shown_temperature(beside),
                evidence.TEMPERATURE_LABELS,
                title="Deltas against the baseline, and against the baseline at T*",
                texts=("comparison", "kind", "quantity"),
            ),
        ),
    )


def texts_section(made: Material) -> tuple[Section, ...]:
    """The evidence on the responses of each generator; nothing where there is one generator."""
    table = tables.evidence_by_text(made.run, made.asked.others, asked=made.question)
    if table.empty:
        return ()
    shown = evidence.shown_texts(table)
    return (
        Section(
            anchor="texts",
            title="On whose text",
            question="Does it hold on what either model wrote?",
            blocks=(
                Paragraph(
                    "The evidence on the responses of each generator. A model is at home on its "
                    "own text, so what holds on one text alone may be the text's. ✓ and ✗: beyond "
                    "both nulls, as self-distillation predicts and against it."
                ),
                grid(
                    shown,
                    title="Figures on the text of each generator",
                    labels={
                        str(name): Column(str(name), "Estimate on responses of this generator.")
                        for name in shown.columns
                    },
                    forms=dict.fromkeys(map(str, shown.columns[2:]), Form.NUMBER),
                    texts={},
                ),
            ),
        ),
    )


def settings_section(made: Material) -> Section:
    """Curves over temperature, and every conclusion under every combination of settings."""
    curves = curve_tables(
        made.run,
        made.asked.other,
        asked=CurvesAsked(
            decoding=made.asked.decoding, rule=made.asked.rule, weighting=made.asked.weighting
        ),
    )
    pictures: list[Block] = [
        Picture("Mass of the likeliest tokens", drawing.mass_chart(curves.by_rank)),
        Paragraph(drawing.mass_sentence(curves.by_rank)),
    ]
    for name in MATCHED_QUANTITIES:
        pictures += [
            Picture(
                f"{QUANTITIES[name].label} at equal top-k mass",
                drawing.matched_chart(curves.matched, quantity=name),
            ),
            Paragraph(drawing.matched_sentence(curves.matched, quantity=name)),
        ]
    return Section(
        anchor="settings",
        title="Over temperature and settings",
        question="Do locks and forks part, and does it hang on settings?",
        blocks=(
            Paragraph(
                "Where both models leave as much mass in the top k, a mere change of temperature "
                "makes no difference."
            ),
            *pictures,
            _grid(
                evidence.shown_multiverse(tables.multiverse_table(made.run, made.asked.other)),
                evidence.MULTIVERSE_LABELS,
                title="Every conclusion under every combination of settings",
                texts=("kind", "quantity", "sign"),
            ),
        ),
    )


def _grid(
    shown: pd.DataFrame, labels: Mapping[str, Column], *, title: str, texts: Sequence[str]
) -> Grid:
    """A table that is text already; columns that are not named hold figures."""
    return grid(
        shown.rename(columns={column.label: name for name, column in labels.items()}),
        title=title,
        labels=labels,
        forms=dict.fromkeys([name for name in labels if name not in texts], Form.NUMBER),
        texts={},
    )
