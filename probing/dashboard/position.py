"""One position, as the pages Examples and Carrier show it, and the way from each to the other."""

import pandas as pd
import streamlit as st

from probing.dashboard.controls import PINNED, Choice
from probing.dashboard.parts import column_help, downloads
from probing.dashboard.saying import said
from probing.reporting import display, formulas
from probing.reporting.examples import example_context, position_name
from probing.reporting.quantities import SHOWN_FIRST
from probing.settings import require

AT = "at"
"""The part of the address that names one position: a permalink. Kept over pages too."""

CARRIER_KEY = "carrier"
"""The control, and the part of the address, that names a response."""

BLIND = "What happened here?"


def remember(name: str) -> None:
    """Write the position that is looked at into the address, and keep it for the other page."""
    st.session_state[AT] = name
    st.query_params[AT] = name


def look_at(position: pd.Series) -> None:
    """Let the page Carrier open at this position."""
    st.session_state[AT] = position_name(position)
    st.session_state[CARRIER_KEY] = str(position["carrier_id"])


def pin(position: pd.Series) -> None:
    """Let the page Examples open at this position."""
    st.session_state[PINNED] = position_name(position)


def heading(position: pd.Series, *, blind: bool = False) -> None:
    """What happened at a position, and where it stands; blind, it does not say what."""
    st.subheader(BLIND if blind else display.event_text(position), anchor=False)
    said(display.place_text(position, blind=blind))


def figures(choice: Choice, row: int) -> None:
    """A position's quantities under the models."""
    beside = None if choice.control is None else _under(choice, choice.control, row)
    st.dataframe(
        display.shown_facts(_under(choice, choice.other, row), beside=beside),
        column_config=dict.fromkeys(
            ("Baseline", "Other", "Delta", "Control"), st.column_config.Column(alignment="right")
        ),
        hide_index=True,
        key="example_facts",
        placeholder=display.NOT_MEASURED,
        alt="This position",
    )


def top_tokens(choice: Choice, position: pd.Series) -> None:
    """The models' top tokens side by side, to download too."""
    asked = choice.asked("example", at=position_name(position))
    table = choice.made(asked)
    st.dataframe(
        display.shown_example(table),
        column_config=column_help(display.example_labels(table)),
        hide_index=True,
        key="example_tokens",
        placeholder=display.NOT_MEASURED,
        alt="Top tokens of the models",
    )
    downloads(choice, asked, name="example", table=table)


def previews(choice: Choice, row: int) -> None:
    """The formulas around a position: their source, and how they look, if that is asked for."""
    context = example_context(choice.run, row)
    found = formulas.formulas(context.before + context.token + context.after)
    if not found:
        return
    if not st.toggle(
        "Render formulas",
        key="example_formulas",
        help="The formulas of this context as they would be printed, each below its source. Only "
        "commands that set mathematics are rendered.",
    ):
        return
    for formula in found:
        with st.container(border=True):
            st.code(formula.source, language=None, wrap_lines=True)
            if formula.refused:
                st.text(f"Not rendered: {formula.refused}.")
            else:
                st.latex(formula.body)


def _under(choice: Choice, name: str, row: int) -> pd.Series:
    """One position with the values that are shown of it, under one of the comparisons."""
    frame = choice.compared(SHOWN_FIRST)[name]
    require(int(frame["row"].iloc[row]) == row, "comparisons keep the order of the run", row)
    return frame.iloc[row]
