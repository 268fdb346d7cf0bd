"""One whole response, coloured by a quantity; a token of it that is looked into; its siblings."""

import pandas as pd
import streamlit as st

from probing.dashboard import labelling, loaders
from probing.dashboard.controls import PINNED, Choice, answered, chosen
from probing.dashboard.filtering import URL
from probing.dashboard.pages import EXAMPLES
from probing.dashboard.parts import column_help, csv_button, downloads, opening
from probing.dashboard.position import (
    AT,
    CARRIER_KEY,
    figures,
    heading,
    pin,
    remember,
    top_tokens,
)
from probing.dashboard.response import response
from probing.reporting import carrier, display, tables
from probing.reporting.coloring import KIND, Aspect, coloring
from probing.reporting.examples import position_name, position_named
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import line, shown_token

LEFT = "left"
"""Where this page keeps the position that it showed last."""

LABELS = {KIND: "Kind"} | {name: quantity.label for name, quantity in QUANTITIES.items()}
ASPECTS = {Aspect.DELTA: "Delta", Aspect.BASELINE: "Baseline", Aspect.OTHER: "Other"}


def page() -> None:
    """Draw the page."""
    choice = chosen()
    st.session_state.setdefault(PINNED, None)
    if not opening(choice, title="Carrier", question="What happened along this response?"):
        return
    carrier_id, by, aspect = _controls(choice)
    positions = carrier.carrier_positions(choice.every, carrier_id)
    labelling.reveal(choice, [carrier_id])
    st.text(carrier.carrier_line(positions))
    with st.expander("Prompt"):
        st.code(
            tables.shown_prompt(choice.run, int(positions["row"].iloc[0])),
            language=None,
            wrap_lines=True,
        )
    _coloured(choice, positions, by, aspect, _opened(choice, positions))
    _siblings(choice, carrier_id, int(positions["carrier"].iloc[0]))


def _controls(choice: Choice) -> tuple[str, str, Aspect]:
    """Which response, and by what it is coloured."""
    names = choice.every["carrier_id"].unique().tolist()
    _follow_link(choice, names)
    left, middle, right = st.columns([2, 3, 2])
    carrier_id = left.selectbox(
        "Response",
        names,
        format_func=line,
        key=CARRIER_KEY,
        bind=URL,
        help="Those that have scored positions; type to search.",
    )
    by = middle.selectbox(
        "Coloured by",
        list(LABELS),
        index=list(LABELS).index("top1_prob"),
        format_func=LABELS.__getitem__,
        key="colored_by",
        bind=URL,
        help="One scale for all responses of the run; the legend has its numbers.",
    )
    of = right.segmented_control(
        "Value",
        [aspect.value for aspect in Aspect],
        default=Aspect.DELTA.value,
        required=True,
        format_func=lambda name: ASPECTS[Aspect(name)],
        key="colored_value",
        bind=URL,
        disabled=by == KIND or QUANTITIES[by].of == "pair",
        help="Delta is other − baseline. A divergence has one value, a kind is that of the "
        "assignment in the sidebar.",
    )
    return carrier_id, by, Aspect(of or Aspect.DELTA)


def _follow_link(choice: Choice, names: list[str]) -> None:
    """Open the response of a position that was looked at since this page was drawn.

    Else what the address names; else the response of which the filters leave most positions.
    """
    position = position_named(choice.every, _looked_at())
    elsewhere = st.session_state.get(AT) != st.session_state.get(LEFT) and position is not None
    asked = st.query_params.get(CARRIER_KEY)
    named = CARRIER_KEY in st.session_state or asked in [*map(line, names)]
    if named and not elsewhere:
        return
    most = choice.kept["carrier_id"].value_counts().index[0]
    st.session_state[CARRIER_KEY] = str(most if position is None else position["carrier_id"])


def _looked_at() -> str:
    """Name of the position that was looked at last, here or on Examples, or that a link names."""
    return str(st.session_state.get(AT) or st.query_params.get(AT) or "")


def _opened(choice: Choice, positions: pd.DataFrame) -> int:
    """The position at which the response opens: the one looked at, if it is in it."""
    position = position_named(positions, _looked_at())
    return carrier.opening_position(positions) if position is None else int(position["position"])


@st.fragment
def _coloured(choice: Choice, positions: pd.DataFrame, by: str, aspect: Aspect, at: int) -> None:
    """The response, and the token of it that is chosen; a click draws this part alone.

    Args:
        choice: what the sidebar says.
        positions: scored positions of the response.
        by: what it is coloured by.
        aspect: which value of that.
        at: where it opened. What is chosen since is kept by the drawing itself: a click sends no
            text again.
    """
    # A fragment is run by itself: what it raises never comes to whoever draws the page.
    answered(lambda: _response(choice, positions, by, aspect, at))


def _response(choice: Choice, positions: pd.DataFrame, by: str, aspect: Aspect, at: int) -> None:
    carrier_id = str(positions["carrier_id"].iloc[0])
    every = choice.compared([] if by == KIND else [by])[choice.other]
    response(
        carrier.drawn(
            loaders.carrier_text(choice.run, int(positions["carrier"].iloc[0])),
            coloring(
                every,
                carrier.carrier_positions(every, carrier_id),
                by=by,
                aspect=aspect,
                assignment=choice.filters.assignment,
                inside=positions["row"].isin(choice.kept["row"]).tolist(),
            ),
            name=carrier_id,
            at=at,
        ),
        on_choose=lambda sent: _choose(carrier_id, sent),
    )
    found = position_named(positions, _looked_at())
    position = positions[positions["position"] == at].iloc[0] if found is None else found
    remember(position_name(position))
    st.session_state[LEFT] = position_name(position)
    _position(choice, position)
    asked = choice.asked("carrier", carrier=carrier_id)
    st.text("All scored positions of this response")
    downloads(choice, asked, name="carrier")


def _choose(carrier_id: str, sent: str) -> None:
    """Look at the token that was clicked. What a browser sends is checked where it is looked up."""
    st.session_state[AT] = f"{carrier_id}:{sent}"


def _position(choice: Choice, position: pd.Series) -> None:
    """The chosen token: what happened, figures, top lists."""
    heading(position)
    st.text(f"Token: {shown_token(str(position['token']))}")
    figures(choice, int(position["row"]))
    top_tokens(choice, position)
    if st.button(
        "Open in examples",
        on_click=pin,
        args=(position,),
        icon=":material/manage_search:",
        help="This position with its context, beside the ranking.",
    ):
        # An empty address: the sidebar writes its own part of it again.
        st.switch_page(EXAMPLES, query_params={})


def _siblings(choice: Choice, carrier_id: str, index: int) -> None:
    """The same problem's other responses, each one click away."""
    st.header("Other responses to this problem", anchor=False)
    table = carrier.sibling_table(choice.every, carrier_id)
    if table.empty:
        st.text("The run has no other scored response to it.")
        return
    key = f"siblings_{index}"
    st.dataframe(
        carrier.shown_siblings(table),
        column_config=column_help(carrier.SIBLING_LABELS),
        hide_index=True,
        height="content",
        key=key,
        on_select=lambda: _open(key, table["carrier_id"].tolist()),
        selection_mode="single-row",
        placeholder=display.NOT_MEASURED,
        alt="Other responses to this problem",
    )
    csv_button(table, name="siblings")


def _open(key: str, names: list[str]) -> None:
    """Open the response that was clicked."""
    rows = st.session_state[key].selection.rows
    if rows:
        st.session_state[CARRIER_KEY] = names[rows[0]]


page()
