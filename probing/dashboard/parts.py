"""Pieces that several pages draw: the state of the run, delta tables, downloads, links."""

from functools import partial
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from probing.dashboard import loaders
from probing.dashboard.controls import NOT_DRAWN, Choice
from probing.dashboard.saying import said
from probing.reporting import charts, display, export, shares, tables
from probing.reporting.deltas import DEFAULT_INFERENCE
from probing.reporting.drifting import BY_KIND_ALONE, DriftAsked
from probing.reporting.mechanism import MOST_POSITIONS
from probing.reporting.provenance import Compared, run_name
from probing.reporting.quantities import QUANTITIES
from probing.reporting.remaking import TableSettings
from probing.reporting.report_file import HTML, best_ending, report_text
from probing.settings import DEFAULT_REPORT_EXAMPLES, Training
from probing.vocabulary import Stratum

ROW_HEIGHT = 35
"""Pixels of a table's row, and of its header."""

MOST_ROWS = 12
"""Rows of a table that are shown without scrolling."""


def opening(choice: Choice, *, title: str, question: str) -> bool:
    """Title, what is compared, what is missing; False when no position is left."""
    st.title(title, anchor=False)
    beside = f" {choice.control} stands beside it." if choice.control else ""
    said(
        f"{question} {choice.other} against {choice.run.model_names[0]}; every delta is "
        f"{choice.other} − {choice.run.model_names[0]}.{beside}"
    )
    if not choice.run.complete:
        st.info(
            f"This run is still being written: {len(choice.run.committed)} of "
            f"{len(choice.run.plan.units)} units are here.",
            icon=":material/hourglass_top:",
        )
    if choice.kept.empty:
        st.warning(
            "No position passes these filters. Clear one under *Positions* in the sidebar.",
            icon=":material/filter_alt_off:",
        )
    return not choice.kept.empty


def metric(
    column: DeltaGenerator, label: str, value: str, below: str, *, explanation: str = ""
) -> None:
    """One figure in a frame, with a grey line below."""
    column.metric(
        label,
        value,
        below,
        delta_color="off",
        delta_arrow="off",
        border=True,
        help=explanation or None,
    )


def delta_frame(
    table: pd.DataFrame, *, by: list[str], key: str, labelled: pd.DataFrame | None = None
) -> None:
    """A delta table as one can scroll it, with its notes below.

    Args:
        table: of `delta_tables`.
        by: its grouping columns.
        key: of the element.
        labelled: that table by `display.labelled_deltas`, if it is at hand.
    """
    if labelled is None:
        labelled = display.labelled_deltas(table, by=by)
    st.dataframe(
        display.shown_deltas(labelled, by=by),
        column_config=column_help(display.delta_labels(by)),
        hide_index=True,
        height=ROW_HEIGHT * (MOST_ROWS + 1) + 2 if len(table) > MOST_ROWS else "content",
        key=key,
        placeholder=display.NOT_MEASURED,
        alt="Deltas by group",
    )
    if family := display.family_notes(table, inference=DEFAULT_INFERENCE):
        st.caption(f"{'; '.join(family)}.")
    if notes := display.notes(table, by=by):
        said(notes)


def rules(choice: Choice, asked: TableSettings) -> None:
    """Decoding and thresholds in force, and what to beware of with this grouping.

    Args:
        choice: what the sidebar says.
        asked: what made the table of deltas.
    """
    by, null = asked.by or (), choice.drift(asked)
    if null is NOT_DRAWN and asked.drift is not None:
        _offer_drift(choice, asked.drift)
    beside = BY_KIND_ALONE if null is None else null.note
    alike = shares.symmetry_text(choice.filters) if Stratum.EVENT in by else ""
    st.caption(
        f"At {display.decoding_text(choice.decoding)}. Kinds at "
        f"{display.decoding_text(choice.kind_decoding)}: {display.rule_text(choice.rule)}. "
        "95 % intervals resample whole problems. *Null*: what the delta would be by selection "
        "alone, with the two models' roles exchanged (by the mean's kinds 0 by symmetry). *Null: "
        "drift*: what noise gives that costs as much KL. A direction is claimed only outside both, "
        "under all three assignments."
        + (f" {beside}." if beside else "")
        + (f" The null is 0 by symmetry where {alike}." if alike else "")
    )


def _offer_drift(choice: Choice, asked: DriftAsked) -> None:
    """A button that draws the drift null of many positions."""
    count = min(len(choice.kept), MOST_POSITIONS)
    if st.button(
        "Draw the drift null",
        icon=":material/casino:",
        key="draw_drift",
        help="What noise gives that costs as much KL, beside every delta by kind. At "
        f"{count:,} positions it takes a while; then it is kept for everybody.",
    ):
        loaders.drift_null(choice.run, asked)
        st.rerun()


def quantity_chart(
    chart: charts.DeltaSpec, *, quantity: str, pick: bool, prefix: str = "chart"
) -> str | None:
    """One quantity's chart under its name; the group that was clicked, if clicks are wanted.

    Args:
        chart: its deltas.
        quantity: its name.
        pick: whether groups can be clicked.
        prefix: of the element's key, before the quantity.
    """
    st.caption(QUANTITIES[quantity].label, help=QUANTITIES[quantity].explanation)
    key = f"{prefix}_{quantity}"
    if not pick:
        st.vega_lite_chart(chart.data, chart.spec, key=key)
        return None
    event = st.vega_lite_chart(
        chart.data, chart.spec, key=key, on_select="rerun", selection_mode=charts.PICKED
    )
    chosen = event.selection.get(charts.PICKED, [])
    return str(chosen[0]["group"]) if chosen else None


def column_help(labels: dict[str, display.Column]) -> dict[str, Any]:
    """Tooltips and widths of a table's columns."""
    return {
        column.label: st.column_config.Column(help=column.explanation, width=column.width)
        for column in labels.values()
    }


def text_frame(shown: pd.DataFrame, labels: dict[str, display.Column], *, key: str) -> None:
    """A table of texts, whole, under its columns' labels."""
    st.dataframe(
        shown,
        column_config=column_help(labels),
        hide_index=True,
        height="content",
        key=key,
        placeholder=display.NOT_MEASURED,
        alt=key.capitalize(),
    )


def csv_button(table: pd.DataFrame, *, name: str, label: str = "CSV") -> None:
    """A button for a table's CSV."""
    st.download_button(
        label,
        lambda: export.csv_text(table),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{name}_csv",
        on_click="ignore",
        icon=":material/download:",
        help=f"The table {name} with all its digits.",
    )


def positions_button(choice: Choice) -> None:
    """A button for all positions that pass the filters, with every quantity, as Parquet."""
    st.download_button(
        "Parquet of all positions",
        lambda: export.parquet_bytes(
            tables.filtered_positions(choice.compared(tuple(QUANTITIES)), filters=choice.filters)
        ),
        file_name="positions.parquet",
        mime="application/vnd.apache.parquet",
        key="positions_parquet",
        on_click="ignore",
        icon=":material/download:",
        help=f"The {len(choice.kept):,} positions under these filters with kinds, events and every "
        "quantity at this decoding; one row for each position and comparison.",
    )


def report_button(choice: Choice, *, training: Training) -> None:
    """A button for the report on the run: HTML where charts can be drawn, else Markdown."""
    asked = Compared(
        other=choice.other,
        control=choice.control,
        training=training,
        decoding=choice.decoding,
        rule=choice.rule,
        examples=DEFAULT_REPORT_EXAMPLES,
    )
    ending = best_ending()
    name = f"{run_name(choice.run).removesuffix('.zarr')}-report{ending}"
    st.download_button(
        "Report",
        lambda: report_text(choice.run, asked=asked, target=name),
        file_name=name,
        mime="text/html" if ending == HTML else "text/markdown",
        key="report",
        on_click="ignore",
        icon=":material/description:",
        help="Verdict, evidence, deltas, events and chosen examples of the whole run in one file "
        "that needs nothing else: no filters, kinds by the mean. It may take a minute to make.",
    )


def downloads(
    choice: Choice,
    asked: TableSettings,
    *,
    name: str,
    table: pd.DataFrame | None = None,
) -> None:
    """Buttons for a table's CSV, and for all that is needed to make it again.

    Args:
        choice: what the sidebar says.
        asked: what makes the table.
        name: of the files.
        table: as it was made; without it, it is made when its CSV is asked for.
    """
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: export.csv_text(choice.made(asked) if table is None else table),
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
            partial(export.settings_json, choice.run, asked=asked),
            file_name=f"{name}-settings.json",
            mime="application/json",
            key=f"{name}_settings",
            on_click="ignore",
            icon=":material/settings:",
            help="Run, fingerprint and every setting behind this table: enough to make it again.",
        )
