"""Where the deltas are: grouped, drawn, with nulls; from kind to kind; down to one group."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from probing.dashboard import labelling
from probing.dashboard.controls import Choice, chosen
from probing.dashboard.filtering import KEYS, URL
from probing.dashboard.pages import EXAMPLES
from probing.dashboard.parts import (
    column_help,
    delta_frame,
    downloads,
    opening,
    quantity_chart,
    rules,
)
from probing.dashboard.saying import said
from probing.reporting import charts, display, shares, tables
from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import ALL, in_group
from probing.reporting.drifting import NULL_DRIFT
from probing.reporting.examples import Order, position_names
from probing.reporting.filters import keep
from probing.reporting.quantities import QUANTITIES, delta_column
from probing.reporting.text import escaped
from probing.vocabulary import Stratum

CHARTS_A_ROW = 2
OPENING = ("top1_prob", "tail_mass", "entropy_kept_nats", "nucleus_size")
MOST_STRATA = 2
BINS = 40
MIDDLE = 0.98
"""Share of positions that a histogram's range spans; the rest is in its first and last bins."""

FEW_EXAMPLES = 5


def deltas() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(choice, title="Deltas", question="Where did distributions change?"):
        return
    left, right = st.columns([2, 3])
    by = left.multiselect(
        "Group by",
        [stratum.value for stratum in Stratum],
        default=[Stratum.KIND.value],
        max_selections=MOST_STRATA,
        format_func=display.stratum_label,
        key="by",
        bind=URL,
        help="One or two strata. None: all positions together.",
    )
    quantities = right.multiselect(
        "Quantities",
        list(QUANTITIES),
        default=list(OPENING),
        format_func=lambda name: QUANTITIES[name].label,
        key="quantities",
        bind=URL,
        help="What is averaged below.",
    )
    if not quantities:
        st.info("Choose at least one quantity.", icon=":material/info:")
        return
    asked = choice.asked("deltas", by=by, quantities=quantities)
    table = choice.made(asked)
    drawn = choice.result(
        "charts",
        asked,
        # Made anew here: the drift null may have been drawn since.
        lambda: charts.delta_specs(choice.made(asked), quantities=quantities, by=by),
    )
    picked = _charts(drawn, table)
    keys = dict(zip(charts.group_labels(table, by), table[by].itertuples(index=False), strict=True))
    if picked is not None and picked in keys:
        group = {} if picked == ALL else dict(zip(by, keys[picked], strict=True))
        _drill(choice, picked, quantities=quantities, group=group)
    delta_frame(table, by=by, key="deltas")
    rules(choice, asked)
    downloads(choice, asked, name="deltas", table=table)
    _assignments(choice, quantities)
    _transitions(choice)
    _events(choice)


def _charts(drawn: Mapping[str, charts.DeltaSpec], table: pd.DataFrame) -> str | None:
    """The charts of a table; the group that was clicked in any of them."""
    picked = None
    columns = st.columns(CHARTS_A_ROW)
    for place, (name, chart) in enumerate(drawn.items()):
        with columns[place % CHARTS_A_ROW]:
            clicked = quantity_chart(chart, quantity=name, pick=True)
            picked = clicked or picked
    names = list(dict.fromkeys(table[COMPARISON]))
    shapes = charts.legend_text(names, drift=NULL_DRIFT in table)
    said(f"{shapes}. Click a mark to look into its group.")
    return picked


def _drill(choice: Choice, picked: str, *, quantities: list[str], group: dict[str, str]) -> None:
    """Look into one group: how its deltas are spread, and its most changed positions."""
    with st.container(border=True):
        said(f"In {picked}")
        quantity = quantities[0]
        if len(quantities) > 1:
            quantity = st.segmented_control(
                "Spread of",
                quantities,
                default=quantities[0],
                required=True,
                format_func=lambda name: QUANTITIES[name].label,
                key="spread",
            )
        compared = choice.compared([quantity])
        parts = {name: _group(frame, choice, group) for name, frame in compared.items()}
        color = charts.KIND_COLORS.get(picked.split(" / ")[0], charts.NEUTRAL)
        bins = _bins(choice, parts, quantity)
        for column, (name, own_bins) in zip(st.columns(len(bins) or 1), bins.items(), strict=False):
            said(name, place=column)
            chart = charts.histogram_chart(own_bins, color=color)
            column.altair_chart(chart, key=f"chart_spread_{name}")
        own = parts[choice.other]
        ranked = tables.ranked_positions(own, by=quantity, order=Order.CHANGE)
        labelling.reveal(choice, position_names(ranked.head(FEW_EXAMPLES)))
        listed = tables.position_list(
            choice.run, ranked.head(FEW_EXAMPLES), by=quantity, compared=compared
        )
        said(f"Most changed of them under {choice.other}: {QUANTITIES[quantity].label}")
        st.dataframe(
            display.shown_list(listed, first=1),
            column_config=column_help(display.LIST_LABELS),
            hide_index=True,
            key="group_examples",
            placeholder=display.NOT_MEASURED,
            alt="Most changed positions of this group",
        )
        if any(stratum not in KEYS for stratum in group):
            st.caption("No filter keeps this group alone: its examples are among all of them.")
        elif st.button(
            f"Examples of these {len(own):,} positions",
            icon=":material/arrow_forward:",
            on_click=_look_at,
            args=(group, quantity),
        ):
            # An empty address: the sidebar writes its own part of it again.
            st.switch_page(EXAMPLES, query_params={})


def _look_at(group: dict[str, str], quantity: str) -> None:
    """Filter by the picked group and rank by the quantity."""
    for stratum, label in group.items():
        st.session_state[KEYS[Stratum(stratum)]] = [label]
    st.session_state["example_by"] = quantity


def _group(frame: pd.DataFrame, choice: Choice, group: dict[str, str]) -> pd.DataFrame:
    """The kept positions of one comparison that lie in the group."""
    kept = keep(frame, filters=choice.filters)
    return kept[in_group(kept, group=group, assignment=choice.filters.assignment)]


def _bins(choice: Choice, parts: dict[str, pd.DataFrame], quantity: str) -> dict[str, pd.DataFrame]:
    """Histograms of every comparison over the same edges; none where nothing is measured."""
    column = delta_column(quantity)
    values = np.concatenate([part[column].dropna().to_numpy() for part in parts.values()])
    if len(values) == 0 or np.ptp(values) == 0:
        return {}
    reach = float(np.quantile(np.abs(values), MIDDLE)) or float(np.abs(values).max())
    edges = np.linspace(-reach if values.min() < 0 else 0.0, reach, BINS + 1)
    return {
        name: tables.delta_histogram(
            part, quantity=quantity, edges=edges, weighting=choice.weighting
        )
        for name, part in parts.items()
        if len(part)
    }


def _assignments(choice: Choice, quantities: list[str]) -> None:
    st.header("By whose distribution", anchor=False)
    beside = (
        " The difference takes kinds from the mean over all models: it is the same under all three."
        if choice.control
        else ""
    )
    st.caption(
        "The same deltas with kinds by the mean of the two models, by the baseline, by the other. "
        "No choice is safe alone: a finding should hold under all three, outside both nulls."
        f"{beside}"
    )
    asked = choice.asked("assignments", quantities=quantities)
    table = choice.made(asked)
    delta_frame(table, by=["assignment", Stratum.KIND.value], key="assignments")
    downloads(choice, asked, name="assignments", table=table)


def _transitions(choice: Choice) -> None:
    st.header("From kind to kind", anchor=False)
    st.caption(
        "Share of all positions by the kind of their distribution under the baseline (down) and "
        "under the compared model (across); darker is a larger share of the row."
    )
    asked = choice.asked("transitions")
    table = choice.made(asked)
    matrices = charts.transition_charts(table)
    left, right = st.columns([3, 2] if len(matrices) == 1 else 2)
    for column, (name, chart) in zip((left, right), matrices.items(), strict=False):
        column.altair_chart(chart, key=f"chart_transitions_{name}")
    with right if len(matrices) == 1 else st.container():
        st.dataframe(
            shares.shown_transitions(table),
            column_config=column_help(shares.transition_labels(table)),
            hide_index=True,
            height="content",
            key="transitions",
            placeholder=display.NOT_MEASURED,
            alt="From kind to kind",
        )
        downloads(choice, asked, name="transitions", table=table)


def _events(choice: Choice) -> None:
    st.header("Events", anchor=False)
    asked = choice.asked("events")
    table = choice.made(asked)
    alike = shares.symmetry_text(choice.filters)
    st.caption(
        "What happened to each position, one event each. *Null*: the mean of the share and of "
        "that with the two models' roles exchanged"
        + (f"; *{shares.BY_SYMMETRY}*: it is the share itself, since {alike}. " if alike else ". ")
        + "*Collapsed* counts positions that are lock-like under both models too. "
        "The post's strict lock includes softened: "
        f"{escaped(shares.both_sums(table))}."
    )
    st.dataframe(
        shares.shown_events(table),
        column_config=column_help(shares.event_labels(table)),
        hide_index=True,
        height="content",
        key="events",
        placeholder=display.NOT_MEASURED,
        alt="Events",
    )
    downloads(choice, asked, name="events", table=table)


deltas()
