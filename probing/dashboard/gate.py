"""The frame's door: sign in, be refused, or go in under one's address; and a line of each visit."""

import logging
import sys
import time
from collections.abc import Callable
from functools import partial

import streamlit as st

from probing.dashboard import visiting
from probing.dashboard.access import TO_WRITE, Ruling, Standing
from probing.errors import AccessNotSetUp
from probing.reporting import text

SEEN, RULED, ENTERED = "seen", "ruled", "entered"
NOBODY = "-"
WRITTEN_IN = ".streamlit/secrets.toml"
LONGEST = 200
"""Characters of a name in the log."""


def entered() -> bool:
    """Whether this visitor sees the runs; if not, what is shown instead has been drawn."""
    try:
        ruled = visiting.ruling(st.user.to_dict())
    except AccessNotSetUp as error:
        _door(partial(_closed, error))
        return False
    st.session_state[RULED] = ruled
    if ruled.enters:
        st.session_state[ENTERED] = True
        return True
    _door(_sign_in if ruled.standing is Standing.SIGNED_OUT else partial(_refused, ruled))
    return False


def _door(draw: Callable[[], None]) -> None:
    """Draw what stands before the runs, in place of all that a page may still show."""
    if ENTERED in st.session_state:
        # The links to the pages stay until others are drawn.
        st.navigation([st.Page(draw, title="Probing", url_path="door")], position="hidden").run()
    else:
        draw()


def who() -> None:
    """Who is signed in, and the way out, at the foot of the sidebar."""
    ruled: Ruling = st.session_state[RULED]
    if ruled.standing is Standing.ALLOWED:
        with st.sidebar:
            st.divider()
            st.text(f"Signed in as {text.line(ruled.address)}")
            _sign_out()


def note(page: str, run: str) -> None:
    """Log a visit, once for each page and run that this visitor turns to.

    Args:
        page: its title.
        run: its name; never what stands in it.
    """
    if st.session_state.get(SEEN) == (page, run):
        return
    st.session_state[SEEN] = (page, run)
    address = st.session_state[RULED].address if RULED in st.session_state else ""
    visits().info(visit_line(user=address, page=page, run=run))


def visit_line(*, user: str, page: str, run: str) -> str:
    r"""What is logged of a visit. Names cannot break the line nor look like another field.

    Examples:
        >>> visit_line(user="", page="Deltas", run='a" user="b\n')
        'visit user="-" page="Deltas" run="a\' user=\'b\\n"'
    """
    return f"visit user={_quoted(user)} page={_quoted(page)} run={_quoted(run)}"


def _quoted(name: str) -> str:
    whole = text.line(name.replace('"', "'")) or NOBODY
    return f'"{whole[:LONGEST]}"'


def visits() -> logging.Logger:
    """The logger of visits: to standard error, a line each, with the time in UTC."""
    logger = logging.getLogger("probing.visits")
    if not logger.handlers:
        handler, form = logging.StreamHandler(sys.stderr), "%(asctime)sZ %(message)s"
        handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
        handler.formatter.converter = time.gmtime  # type: ignore[union-attr]
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    return logger


def _sign_in() -> None:
    st.title("Probing", anchor=False)
    st.text("This dashboard shows its runs to those who sign in.")
    st.button("Sign in", on_click=st.login, type="primary", icon=":material/login:", key="sign_in")
    note("sign in", "")


def _sign_out() -> None:
    st.button("Sign out", on_click=st.logout, icon=":material/logout:", key="sign_out")


def _refused(ruled: Ruling) -> None:
    st.title("Probing", anchor=False)
    st.error("You are signed in, and may not see this dashboard.", icon=":material/block:")
    st.text(f"{text.line(ruled.address)}\n{ruled.reason}" if ruled.address else ruled.reason)
    _sign_out()
    note("refused", "")


def _closed(error: AccessNotSetUp) -> None:
    st.title("Probing", anchor=False)
    st.error("Nobody can get in yet.", icon=":material/lock:")
    said = str(error)
    st.text(
        f"{said[:1].upper()}{said[1:]}.\nWho gets in is written in {WRITTEN_IN} (docs/hosting.md):"
    )
    st.code(TO_WRITE, language="toml")
    note("closed", "")
