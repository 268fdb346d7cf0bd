"""What was compared, and what training did to it: deltas by kind, kinds, examples."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from probing.dashboard.controls import URL, Choice, chosen
from probing.reporting import charts, display, export, tables
from probing.reporting.examples import Order
from probing.reporting.filters import Counts, count
from probing.reporting.quantities import QUANTITIES, SHOWN_FIRST
from probing.vocabulary import Stratum

CHARTS_A_ROW = 4
TABLE_HEIGHT = 562
"""Pixels: a header and three quantities of five rows."""


def overview() -> None:
    """Draw the page."""
    choice = chosen()
    counts = count(choice.kept)
    st.title("What fine-tuning changed, token by token", anchor=False)
    st.text(
        f"{choice.other} against {choice.run.model_names[0]}: both models' next-token "
        "distributions at the same places of the same responses. "
        f"Every delta is {choice.other} − {choice.run.model_names[0]}."
    )
    _state(choice)
    _counts(choice, counts)
    if counts.positions == 0:
        st.warning(
            "No position passes these filters. Clear one under *Positions* in the sidebar.",
            icon=":material/filter_alt_off:",
        )
        return
    _deltas(choice)
    _shares(choice)
    st.header("Examples", anchor=False)
    _examples(choice)


def _state(choice: Choice) -> None:
    if not choice.run.complete:
        st.info(
            f"This run is still being written: {len(choice.run.committed)} of "
            f"{len(choice.run.plan.units)} units are here.",
            icon=":material/hourglass_top:",
        )


def _counts(choice: Choice, counts: Counts) -> None:
    whole = count(choice.every)
    *columns, last = st.columns(4)
    for column, label, kept, total in zip(
        columns,
        ("Positions", "Responses", "Problems"),
        (counts.positions, counts.carriers, counts.problems),
        (whole.positions, whole.carriers, whole.problems),
        strict=True,
    ):
        _metric(column, label, f"{kept:,}", f"of {total:,} in the run")
    temperature, truncation = display.decoding_parts(choice.decoding)
    _metric(last, "Decoding", temperature, truncation)


def _metric(column: DeltaGenerator, label: str, value: str, below: str) -> None:
    column.metric(label, value, below, delta_color="off", delta_arrow="off", border=True)


def _deltas(choice: Choice) -> None:
    st.header("Deltas by kind", anchor=False)
    quantities = st.multiselect(
        "Quantities",
        list(QUANTITIES),
        default=list(SHOWN_FIRST),
        format_func=lambda name: QUANTITIES[name].label,
        key="quantities",
        bind=URL,
        help="What is averaged below.",
    )
    if not quantities:
        st.info("Choose at least one quantity.", icon=":material/info:")
        return
    table = tables.delta_table(
        choice.every,
        by=[Stratum.KIND],
        filters=choice.filters,
        quantities=quantities,
        weighting=choice.weighting,
    )
    columns = st.columns(CHARTS_A_ROW)
    for place, name in enumerate(quantities):
        with columns[place % CHARTS_A_ROW]:
            st.caption(QUANTITIES[name].label, help=QUANTITIES[name].explanation)
            st.altair_chart(charts.delta_chart(table, quantity=name), key=f"chart_{name}")
    st.dataframe(
        display.shown_deltas(table),
        column_config=_columns(display.DELTA_LABELS),
        hide_index=True,
        height=TABLE_HEIGHT,
        key="deltas",
        alt="Deltas by kind",
    )
    if notes := display.notes(table):
        st.caption(f":material/info: {notes}")
    st.caption(
        f"At {display.decoding_text(choice.decoding)}. Kinds at "
        f"{display.decoding_text(choice.kind_decoding)}: {display.rule_text(choice.rule)}."
    )
    _downloads(choice, table, name="deltas")


def _shares(choice: Choice) -> None:
    st.header("How many of each kind", anchor=False)
    st.caption(
        "Weighted share of the positions above, by whose distribution decides: the mean of the "
        "two models' log-distributions, the baseline's, the other's."
    )
    shares = tables.kind_shares(choice.kept, weighting=choice.weighting)
    st.altair_chart(charts.shares_chart(shares), key="chart_shares")


@st.fragment
def _examples(choice: Choice) -> None:
    by_box, order_box, seed_box, place_box = st.columns([3, 2, 1, 2])
    by = by_box.selectbox(
        "Rank by",
        list(QUANTITIES),
        format_func=lambda name: QUANTITIES[name].label,
        key="example_by",
        bind=URL,
        help="The quantity whose delta ranks the positions.",
    )
    order = Order(
        order_box.selectbox(
            "Order",
            [order.value for order in Order],
            index=list(Order).index(Order.CHANGE),
            key="example_order",
            bind=URL,
            help="Random order shows what is typical; the others show what is extreme.",
        )
    )
    seed = seed_box.number_input(
        "Seed",
        min_value=0,
        value=0,
        key="example_seed",
        bind=URL,
        disabled=order is not Order.RANDOM,
        help="Of the random order.",
    )
    ranked = tables.ranked_positions(choice.kept, by=by, order=order, seed=seed)
    if ranked.empty:
        st.info("This quantity is not measured at any of these positions.", icon=":material/info:")
        return
    place = place_box.number_input(
        f"Example, 1 to {len(ranked):,}",
        min_value=1,
        max_value=len(ranked),
        value=1,
        key="example",
        bind=URL,
        help="Step through the positions in this order.",
    )
    _example(choice, ranked.iloc[place - 1])


def _example(choice: Choice, position: pd.Series) -> None:
    row = int(position["row"])
    st.text(display.place_text(position))
    text, facts = st.columns([3, 2])
    text.code(tables.shown_context(choice.run, row), language=None, wrap_lines=True)
    facts.dataframe(
        display.shown_facts(position),
        column_config=dict.fromkeys(
            ("Baseline", "Other", "Delta"), st.column_config.Column(alignment="right")
        ),
        hide_index=True,
        key="example_facts",
        alt="This position",
    )
    table = tables.example_table(choice.run, row, other=choice.other, decoding=choice.decoding)
    st.dataframe(
        display.shown_example(table),
        column_config=_columns(display.EXAMPLE_LABELS),
        hide_index=True,
        key="example_tokens",
        alt="Top tokens of both models",
    )
    _downloads(choice, table, name="example")
    with st.expander("Prompt"):
        st.code(tables.shown_prompt(choice.run, row), language=None, wrap_lines=True)


def _columns(labels: dict[str, display.Column]) -> dict[str, Any]:
    return {
        column.label: st.column_config.Column(help=column.explanation) for column in labels.values()
    }


def _downloads(choice: Choice, table: pd.DataFrame, *, name: str) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            partial(export.csv_text, table),
            file_name=f"{name}.csv",
            mime="text/csv",
            key=f"{name}_csv",
            on_click="ignore",
            icon=":material/download:",
            help="This table with all its digits. Text that a spreadsheet would run as a formula "
            "begins with an apostrophe.",
        )
        st.download_button(
            "Settings",
            partial(export.settings_json, choice.run, settings=choice.settings),
            file_name=f"{name}-settings.json",
            mime="application/json",
            key=f"{name}_settings",
            on_click="ignore",
            icon=":material/settings:",
            help="Run, fingerprint, decoding, kinds and filters behind this table.",
        )


overview()
