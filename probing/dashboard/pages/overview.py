"""What was compared, and in short what training did to it."""

import streamlit as st

from probing.dashboard import overview_tables
from probing.dashboard.controls import Choice, chosen
from probing.dashboard.parts import (
    delta_frame,
    downloads,
    metric,
    opening,
    quantity_chart,
    rules,
)
from probing.dashboard.saying import said
from probing.dashboard.two_runs import beside
from probing.reporting import charts, display
from probing.reporting.headlines import Headline

CHARTS_A_ROW = 4


def overview() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(
        choice,
        title="What fine-tuning changed, token by token",
        question="Did training sharpen locks and keep forks open?",
    ):
        return
    asked, shown = overview_tables.asked(choice), overview_tables.overview(choice)
    with st.container(border=True):
        said(shown.sentence)
    _counts(choice)
    _headlines(choice, shown.headlines)
    st.header("Deltas by kind", anchor=False)
    said(charts.legend_text(list(choice.standing), drift=True))
    columns = st.columns(CHARTS_A_ROW)
    for place, (name, chart) in enumerate(shown.charts.items()):
        with columns[place % CHARTS_A_ROW]:
            quantity_chart(chart, quantity=name, pick=False)
    delta_frame(shown.table, by=overview_tables.BY, key="deltas", labelled=shown.labelled)
    rules(choice, asked)
    downloads(choice, asked, name="overview", table=shown.table)
    st.header("How many of each kind", anchor=False)
    st.caption(
        "Weighted share of the positions above, by whose distribution decides: the mean of the "
        "two models' log-distributions, the baseline's, the other's."
    )
    st.vega_lite_chart(spec=shown.shares, key="chart_shares")
    beside(choice)


def _counts(choice: Choice) -> None:
    counts, whole = choice.left.counts, choice.left.whole
    *columns, last = st.columns(4)
    for column, label, kept, total in zip(
        columns,
        ("Positions", "Responses", "Problems"),
        (counts.positions, counts.carriers, counts.problems),
        (whole.positions, whole.carriers, whole.problems),
        strict=True,
    ):
        metric(column, label, f"{kept:,}", f"of {total:,} in the run")
    temperature, truncation = display.decoding_parts(choice.decoding)
    metric(last, "Decoding", temperature, truncation)


def _headlines(choice: Choice, items: list[Headline]) -> None:
    """Four deltas, each with its interval and the control's beside it."""
    for column, item in zip(st.columns(len(items)), items, strict=True):
        below = display.interval_shown(item.interval)
        metric(column, item.label, item.value, below, explanation=item.explanation)
        if choice.control and item.beside:
            said(f"{choice.control} {item.beside}, difference {item.apart}", place=column)


overview()
