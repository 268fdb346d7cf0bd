"""Labels by people against the heuristic: tables, labels to take away, labels from elsewhere."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from probing.carriers.record import Skipped
from probing.dashboard import labelling
from probing.dashboard.controls import Choice
from probing.dashboard.parts import csv_button, text_frame
from probing.dashboard.saying import said
from probing.errors import ProbingError
from probing.reporting import display, labels, labels_shown
from probing.reporting.text import line
from probing.store.intake import taken
from probing.store.labels import lines_of
from probing.store.reader import Run

UPLOAD_MB = 5
"""The largest file of labels that a page takes."""

MOST_LISTED = 20
"""Lines left out of an upload that are shown one by one."""

UPLOADS, RECEIVED = "label_uploads", "labels_received"
"""Of the session: how many uploads there were, and what became of the last."""


def section(choice: Choice) -> None:
    """Draw the section."""
    st.header("Labels by people", anchor=False)
    table = labelling.table_of(choice)
    if table.empty:
        st.text("Nobody has labelled a position of this pair yet: the form is on Examples.")
    else:
        _tables(choice, table)
    _exchange(choice)


def _tables(choice: Choice, table: pd.DataFrame) -> None:
    st.text(f"{labels_shown.basis_text(table)}.")
    st.caption(
        f"The heuristic is by the {choice.filters.assignment}, thresholds and decoding of kinds as "
        "in the sidebar; its filters do not apply here. Intervals resample problems."
    )
    found = labels.agreement_table(table)
    with st.container(key="agreed"):
        shown = labels_shown.shown_agreement(found)
        text_frame(shown, labels_shown.AGREEMENT_LABELS, key="agreement")
    confusion = labels.confusion_table(table)
    bases = list(dict.fromkeys(confusion["basis"]))
    for of in ("kind", "event"):
        columns = st.columns(2) if of == "kind" else [st.container() for _ in bases]
        for column, basis in zip(columns, bases, strict=False):
            _confusion(column, confusion, of=of, basis=basis)
    deltas = labels.label_deltas(table, choice.compared(labels.COMPARED)[choice.other])
    for basis in dict.fromkeys(deltas["basis"]):
        st.caption(f"Deltas by people's kinds and by the heuristic's, {basis}.")
        text_frame(
            labels_shown.shown_label_deltas(deltas, basis=basis),
            labels_shown.DELTA_LABELS,
            key=f"deltas, {basis}",
        )
    if notes := labels_shown.delta_notes(deltas):
        said("; ".join(notes))
    with st.container(horizontal=True):
        csv_button(found, name="agreement", label="Agreement")
        csv_button(confusion, name="confusion", label="Confusion")
        csv_button(deltas, name="label-deltas", label="Deltas")
        csv_button(table, name="labels", label="Labels")


def _confusion(box: DeltaGenerator, table: pd.DataFrame, *, of: str, basis: str) -> None:
    shown = labels_shown.shown_confusion(table, of=of, basis=basis)
    if shown.empty:
        return
    box.caption(f"{of.capitalize()}, {basis}: labels counted.")
    box.dataframe(
        shown,
        hide_index=True,
        height="content",
        key=f"confusion_{of}_{basis.replace(' ', '_')}",
        alt=f"People's {of}s against the heuristic's",
    )


def _exchange(choice: Choice) -> None:
    """Labels out and in."""
    found = labelling.labels_of(choice.run)
    if found.skipped:
        said(
            f"{len(found.skipped)} lines beside this run are no labels and are left out; the first "
            f"is line {found.skipped[0].line}: {found.skipped[0].detail}"
        )
    if found.labels:
        st.download_button(
            "All labels (JSONL)",
            lambda: lines_of(found.labels),
            file_name="labels.jsonl",
            mime="application/jsonl",
            key="labels_jsonl",
            on_click="ignore",
            icon=":material/download:",
            help="Every line, withdrawn and replaced ones too: enough to join with other files.",
        )
    if not choice.run.complete:
        return
    count = st.session_state.setdefault(UPLOADS, 0)
    with st.container(key="labels_upload"):
        st.file_uploader(
            "Add labels (JSONL)",
            key=f"label_upload_{count}",
            max_upload_size=UPLOAD_MB,
            on_change=_receive,
            args=(choice.run, f"label_upload_{count}"),
            help="Of this run, as downloaded here or by `probing labels RUN --export F`.",
        )
    received = st.session_state.get(RECEIVED)
    if received is not None and received.run == choice.run.fingerprint:
        _said(received)


class _Received:
    """What became of an upload."""

    def __init__(self, run: str, text: str, skipped: pd.DataFrame) -> None:
        self.run, self.text, self.skipped = run, text, skipped


def _receive(run: Run, key: str) -> None:
    """Take the labels of an uploaded file, and empty the box for the next."""
    file = st.session_state.get(key)
    if file is None:
        return
    st.session_state[UPLOADS] += 1
    skipped: tuple[Skipped, ...] = ()
    try:
        if file.size > UPLOAD_MB << 20:
            text = f"A file must have at most {UPLOAD_MB} MB, got {file.size >> 20} MB."
        else:
            found = taken(file.getvalue(), run=run, name=line(file.name))
            new, skipped = labelling.keep(run, found.labels), found.skipped
            text = f"{new} labels added, {len(found.labels) - new} were there already."
    except ProbingError as error:
        text, skipped = f"Nothing added: {error}", error.skipped
    rows = [{"line": one.line, "reason": one.reason, "detail": line(one.detail)} for one in skipped]
    shown = pd.DataFrame(rows, columns=[*labels_shown.SKIPPED_LABELS])
    st.session_state[RECEIVED] = _Received(run.fingerprint, text, shown)


def _said(received: _Received) -> None:
    said(received.text)
    if len(received.skipped):
        more = len(received.skipped) - MOST_LISTED
        st.text(f"{len(received.skipped)} lines left out" + (":" if more <= 0 else ", the first:"))
        shown = display.labelled(received.skipped.head(MOST_LISTED), labels_shown.SKIPPED_LABELS)
        text_frame(shown, labels_shown.SKIPPED_LABELS, key="lines left out")
