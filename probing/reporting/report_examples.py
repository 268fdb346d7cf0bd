"""Chosen positions of a report: the extremes of a few lists, with both models' top tokens."""

from dataclasses import dataclass, replace

import pandas as pd

from probing.reporting import display, tables
from probing.reporting.display import signed
from probing.reporting.document import Block, Excerpt, Paragraph, Section, Subheading
from probing.reporting.examples import Order
from probing.reporting.filters import keep
from probing.reporting.quantities import QUANTITIES, delta_column
from probing.reporting.report_material import Material
from probing.reporting.report_tables import example_grid
from probing.reporting.text import MARKS
from probing.vocabulary import Kind

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


def chosen_positions(made: Material, which: ExampleList) -> pd.DataFrame:
    """The first positions of a list of examples; only those that moved in its direction."""
    kinds = () if which.kind is None else (which.kind.value,)
    kept = keep(made.compared[made.asked.other], filters=replace(made.asked.filters, kind=kinds))
    ranked = tables.ranked_positions(kept, by=which.quantity, order=which.order)
    values = ranked[delta_column(which.quantity)]
    right = values < 0 if which.order is Order.DECREASE else values > 0
    return ranked[right].head(made.asked.examples)


def examples_section(made: Material) -> Section:
    """Every list of examples, each position with its text and both top lists."""
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
