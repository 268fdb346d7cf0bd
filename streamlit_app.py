"""The dashboard: the server, and the frame of every page.

streamlit run streamlit_app.py [-- RUN…]

Streamlit imports this file once and serves `app`; for each visit it runs the file as a script.
"""

from pathlib import Path

import streamlit as st

from probing.dashboard import guard, visiting

HERE = Path(__file__).resolve()

# Two bars, baseline and other. An icon by name would be fetched from another host.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<rect x="2" y="6" width="5" height="8" rx="1" fill="#7a828c"/>'
    '<rect x="9" y="2" width="5" height="12" rx="1" fill="#3662d9"/></svg>'
)

# White on the dark theme's own colour would be too faint to read.
FILLED = (
    "<style>[data-tag-index], [data-testid^=stBaseButton-primary]"
    " { background-color: #285f94 !important; }</style>"
)


def _frame() -> None:
    # Their caches look for the runtime, which is not there yet when the server imports this file.
    from probing.dashboard import controls, gate, pages

    st.set_page_config(
        page_title="Probing",
        page_icon=ICON,
        layout="wide",
        initial_sidebar_state=300,
    )
    st.html(FILLED)
    if not gate.entered():
        return
    page = st.navigation(
        [
            st.Page(pages.OVERVIEW, title="Overview", icon=":material/summarize:", default=True),
            st.Page(pages.DELTAS, title="Deltas", icon=":material/bar_chart:"),
            st.Page(pages.EXAMPLES, title="Examples", icon=":material/manage_search:"),
            st.Page(pages.CARRIER, title="Carrier", icon=":material/article:"),
            st.Page(pages.MECHANISM, title="Mechanism", icon=":material/science:"),
            st.Page(pages.METHODS, title="Methods", icon=":material/menu_book:"),
        ],
        position="top",
    )
    shown = controls.draw(_listed())
    gate.who()
    gate.note(page.title, st.session_state.get("run") or "")
    if shown:
        controls.answered(page.run)
        controls.foot()


def _listed() -> dict[str, str]:
    from probing.dashboard import loaders

    return loaders.listed_runs(HERE.parent / "cache", page=HERE.name)


if __name__ == "__main__":
    _frame()
else:
    # What pages compute and draw with takes seconds to load: before the first visit, not in it.
    from probing.dashboard import warming
    from probing.reporting import charts, mechanism_charts, tables  # noqa: F401

    warming.begin(_listed)
    app = st.App(HERE, middleware=guard.MIDDLEWARE, secrets=visiting.secrets_of_environment())
