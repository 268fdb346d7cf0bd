"""What is said of a run: names, labels and errors as text, whatever they hold."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from probing.reporting.text import plain


def said(text: str, *, place: DeltaGenerator | None = None) -> None:
    """A text that is no Markdown, with nothing in it hidden; on the page or in a place of it."""
    (st if place is None else place).text(plain(text))
