"""What was compared, and in short what training did to it."""

from typing import Any

import pandas as pd
import streamlit as st

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
from probing.reporting import charts, display, headlines, tables
from probing.reporting.filters import Filters, keep
from probing.reporting.quantities import SHOWN_FIRST
from probing.reporting.remaking import TableSettings
from probing.vocabulary import Stratum

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
    by = [Stratum.KIND.value]
    asked = choice.asked("deltas", by=by, quantities=SHOWN_FIRST)
    table = choice.made(asked)
    with st.container(border=True):
        said(_sentence(choice, asked, table))
    _counts(choice)
    _headlines(choice, table)
    st.header("Deltas by kind", anchor=False)
    said(charts.legend_text(list(choice.standing), drift=True))
    columns = st.columns(CHARTS_A_ROW)
    for place, name in enumerate(SHOWN_FIRST):
        with columns[place % CHARTS_A_ROW]:
            quantity_chart(table, quantity=name, by=by, pick=False)
    delta_frame(table, by=by, key="deltas")
    rules(choice, asked)
    downloads(choice, asked, name="overview", table=table)
    _shares(choice, asked)
    beside(choice)


def _sentence(choice: Choice, asked: TableSettings, table: pd.DataFrame) -> str:
    """What may be said, of which positions; `table` is that of the assignment in force."""
    found = choice.result(
        "headlines",
        asked,
        lambda: headlines.headline_tables(
            choice.held(SHOWN_FIRST, grouped=[Stratum.KIND]),
            filters=choice.filters,
            weighting=choice.weighting,
            drift=choice.drift(asked),
            known={choice.filters.assignment: table},
        ),
    )
    text = headlines.sentence(found, other=choice.other)
    everything = Filters(assignment=choice.filters.assignment)
    return (
        text if choice.filters == everything else f"Among the positions that filters keep: {text}"
    )


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


def _headlines(choice: Choice, table: pd.DataFrame) -> None:
    """Four deltas, each with its interval and the control's beside it."""
    for column, item in zip(
        st.columns(len(headlines.HEADLINES)), headlines.headlines(table), strict=True
    ):
        below = display.interval_shown(item.interval)
        metric(column, item.label, item.value, below, explanation=item.explanation)
        if choice.control and item.beside:
            said(f"{choice.control} {item.beside}, difference {item.apart}", place=column)


def _shares(choice: Choice, asked: TableSettings) -> None:
    st.header("How many of each kind", anchor=False)
    st.caption(
        "Weighted share of the positions above, by whose distribution decides: the mean of the "
        "two models' log-distributions, the baseline's, the other's."
    )

    def make() -> dict[str, Any]:
        cells = choice.held(SHOWN_FIRST, grouped=[Stratum.KIND])[choice.other]
        kept = keep(cells, filters=choice.filters)
        chart = charts.shares_chart(tables.kind_shares(kept, weighting=choice.weighting))
        found: dict[str, Any] = chart.to_dict()
        return found

    st.vega_lite_chart(spec=choice.result("shares", asked, make), key="chart_shares")


overview()
