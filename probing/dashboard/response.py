"""The coloured response as an element of a page: text that answers clicks and keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

KEY = "response"
EVENT = "at"
"""What the element sends: the position that was clicked, or chosen by a key."""

_HERE = Path(__file__).resolve()

_element = st.components.v2.component(
    "probing_response",
    html='<div class="response"></div>',
    css=_HERE.with_suffix(".css").read_text(encoding="utf-8"),
    js=_HERE.with_suffix(".js").read_text(encoding="utf-8"),
)


def response(data: dict[str, Any], *, on_choose: Callable[[str], None]) -> None:
    """Draw a response.

    Args:
        data: of `reporting.carrier.drawn`.
        on_choose: told what was sent, whatever it is.
    """
    _element(
        key=KEY, data=data, on_at_change=lambda: on_choose(str(st.session_state[KEY].get(EVENT)))
    )
