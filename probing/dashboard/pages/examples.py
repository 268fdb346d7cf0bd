"""Single positions: ranked or drawn, their context, and the models' top tokens side by side."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from probing.dashboard import labelling, loaders
from probing.dashboard.controls import PINNED, Choice, chosen
from probing.dashboard.filtering import URL, whole_number
from probing.dashboard.pages import CARRIER
from probing.dashboard.parts import column_help, csv_button, downloads, opening, positions_button
from probing.dashboard.position import (
    AT,
    figures,
    heading,
    look_at,
    previews,
    remember,
    top_tokens,
)
from probing.reporting import display, tables
from probing.reporting.examples import (
    Order,
    position_name,
    position_named,
    position_names,
    ranked_places,
)
from probing.reporting.filters import keep
from probing.reporting.quantities import QUANTITIES
from probing.reporting.remaking import Ranking
from probing.vocabulary import PositionIds

LISTED = 10


def examples() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(choice, title="Examples", question="What happened, at which token?"):
        return
    ranking, narrowed = _ranking()
    compared = choice.compared([ranking.by])
    order = _order(choice, ranking, compared[choice.other], narrowed)
    position = _pinned(choice, ranking)
    if position is None:
        if not len(order):
            st.info("This quantity is not measured at any such position.", icon=":material/info:")
            return
        place = _place(choice, order, ranking, compared=compared, narrowed=narrowed)
        position = compared[choice.other].iloc[order[place]]
    remember(position_name(position))
    seen = labelling.seen(choice, position)
    _example(choice, position, blind=seen.blind)
    labelling.form(choice, seen, labelling.offer_of(choice, ranking, seen, narrowed_by=narrowed))


def _order(choice: Choice, ranking: Ranking, every: pd.DataFrame, narrowed: str) -> PositionIds:
    """Rows of the run in the order of the ranking."""

    def find() -> PositionIds:
        kept = labelling.narrowed(choice, keep(every, filters=choice.filters), narrowed)
        places = ranked_places(kept, by=ranking.by, order=ranking.order, seed=ranking.seed)
        rows: PositionIds = kept["row"].to_numpy()[places]
        return rows

    if narrowed != labelling.ANY:  # Labels come and go.
        return find()
    return loaders.ranking(choice.run, choice.asked("positions", ranking=ranking), find)


def _ranking() -> tuple[Ranking, str]:
    """In which order the kept positions are offered, and which of them by their labels."""
    by_box, order_box, seed_box, labels_box = st.columns([3, 2, 1, 2])
    by = by_box.selectbox(
        "Rank by",
        list(QUANTITIES),
        format_func=lambda name: QUANTITIES[name].label,
        key="example_by",
        bind=URL,
        on_change=_restart,
        help="The quantity whose delta ranks the positions.",
    )
    order = Order(
        order_box.selectbox(
            "Order",
            [order.value for order in Order],
            index=list(Order).index(Order.CHANGE),
            key="example_order",
            bind=URL,
            on_change=_restart,
            help="Random order shows what is typical; the others show what is extreme.",
        )
    )
    seed = whole_number(
        seed_box,
        "Seed",
        ends=(0, None),
        value=0.0,
        key="example_seed",
        on_change=_restart,
        help="Of the random order, and of what is drawn to be labelled.",
    )
    with labels_box:
        narrowed = labelling.filter_box()
    return Ranking(by=by, order=order, seed=seed), narrowed


def _unpin() -> None:
    """Follow the ranking again, at the place where it stood."""
    st.session_state[PINNED] = None


def _restart() -> None:
    """Follow the ranking from its first position."""
    _unpin()
    st.session_state["example"] = 1


def _pinned(choice: Choice, ranking: Ranking) -> pd.Series | None:
    """The position of a permalink or of the draw, until another is asked for."""
    if PINNED not in st.session_state:
        st.session_state[PINNED] = st.query_params.get(AT)
    name = st.session_state[PINNED]
    if name is None:
        labelling.draw_button(choice, ranking.seed)
        return None
    position = position_named(choice.every, name)
    with st.container(horizontal=True, vertical_alignment="center"):
        if name == st.session_state.get(labelling.DRAWN):
            st.caption(f":material/casino: Drawn at random, seed {ranking.seed}.")
        elif position is None:
            st.warning(
                "The position that this link names is not in this run.", icon=":material/link_off:"
            )
        else:
            st.caption(":material/link: This is the position that the link names.")
        labelling.draw_button(choice, ranking.seed)
        st.button("Back to the ranking", on_click=_unpin, icon=":material/format_list_numbered:")
    return position


def _place(
    choice: Choice,
    order: PositionIds,
    ranking: Ranking,
    *,
    compared: Mapping[str, pd.DataFrame],
    narrowed: str,
) -> int:
    """Which place of the ranking is looked at: by its number, or by a click in the list."""
    number = whole_number(
        None,
        f"Example, 1 to {len(order):,}",
        ends=(1, len(order)),
        value=1.0,
        key="example",
        help="Step through the positions in this order, or click one in the list.",
    )
    first = (number - 1) // LISTED * LISTED
    every = compared[choice.other]
    here = every.iloc[order[first : first + LISTED]]
    labelling.reveal(choice, position_names(here))
    listed = tables.position_list(choice.run, here, by=ranking.by, compared=compared)
    st.dataframe(
        display.shown_list(listed, first=first + 1),
        column_config=column_help(display.LIST_LABELS),
        hide_index=True,
        height="content",
        key=f"list_{first}",
        on_select=lambda: _clicked(first),
        selection_mode="single-row",
        placeholder=display.NOT_MEASURED,
        alt="Positions in this order",
    )
    if narrowed == labelling.ANY:
        downloads(choice, choice.asked("positions", ranking=ranking), name="positions")
    else:  # Settings do not hold labels: the list could not be made again from them.
        found = every.iloc[order]
        whole = tables.position_list(choice.run, found, by=ranking.by, compared=compared)
        csv_button(whole, name="positions")
    positions_button(choice)
    return number - 1


def _clicked(first: int) -> None:
    """Look at the position of the list that was clicked."""
    rows = st.session_state[f"list_{first}"].selection.rows
    if rows:
        st.session_state["example"] = first + rows[0] + 1


def _example(choice: Choice, position: pd.Series, *, blind: bool) -> None:
    row = int(position["row"])
    heading(position, blind=blind)
    if not blind:
        labelling.reveal(choice, [position_name(position)])
    text, facts = st.columns(2)
    text.container(key="example_context").code(
        tables.shown_context(choice.run, row), language=None, wrap_lines=True
    )
    with facts:
        figures(choice, row)
    top_tokens(choice, position)
    if st.button(
        "Open in carrier",
        on_click=look_at,
        args=(position,),
        icon=":material/article:",
        help="The whole response, coloured, at this token.",
    ):
        # An empty address: the sidebar writes its own part of it again.
        st.switch_page(CARRIER, query_params={})
    previews(choice, row)
    with st.expander("Prompt"):
        st.code(tables.shown_prompt(choice.run, row), language=None, wrap_lines=True)


examples()
