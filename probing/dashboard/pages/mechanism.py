"""Was it the SSD effect? The evidence with its nulls, the verdict, and what hangs on settings."""

import pandas as pd
import streamlit as st

from probing.dashboard import loaders
from probing.dashboard.controls import Choice, chosen
from probing.dashboard.filtering import URL
from probing.dashboard.parts import column_help, opening
from probing.reporting import charts, display, evidence, export
from probing.reporting.mechanism import Asked, Found
from probing.settings import Training

DEFAULT = Training()


def mechanism() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(choice, title="Mechanism", question="What did training do?"):
        return
    training = _training(choice)
    asked = Asked(training=training, rule=choice.rule, weighting=choice.weighting)
    names = [choice.other, *([choice.control] if choice.control else [])]
    found = {name: loaders.mechanism(choice.run, name, asked=asked) for name in names}
    _verdicts(found)
    st.caption(
        "All positions that carry headline figures, whatever the filters say. Every figure stands "
        "beside two nulls: what selection alone gives with the models' roles exchanged, and what "
        "noise gives that costs as much KL (drift). A direction is claimed beyond both."
    )
    table = evidence.evidence_table(found, asked=asked)
    _evidence(table)
    _multiverse(choice)


def _training(choice: Choice) -> Training:
    """How the samples were drawn that the model was trained on."""
    left, middle, right = st.columns(3)
    temperature = left.number_input(
        "T of training samples",
        min_value=0.05,
        value=DEFAULT.temperature,
        step=0.05,
        format="%.2f",
        key="train_temperature",
        bind=URL,
        help="The temperature at which the responses were sampled that the model was trained on.",
    )
    top_k = middle.number_input(
        "Their top-k",
        min_value=0,
        max_value=choice.run.manifest.settings.store.top_k,
        value=DEFAULT.top_k,
        key="train_top_k",
        bind=URL,
        help="0: they were not truncated by rank.",
    )
    top_p = right.number_input(
        "Their top-p",
        min_value=0.05,
        max_value=1.0,
        value=DEFAULT.top_p,
        step=0.05,
        format="%.2f",
        key="train_top_p",
        bind=URL,
        help="1: they were not truncated by mass.",
    )
    return Training(temperature=round(temperature, 4), top_k=top_k, top_p=round(top_p, 4))


def _verdicts(found: dict[str, Found]) -> None:
    for column, (name, one) in zip(st.columns(len(found)), found.items(), strict=True):
        with column.container(border=True):
            st.caption(f"Verdict on {display.escaped(name)}")
            st.subheader(str(one.verdict.mechanism), anchor=False)
            st.text(f"{one.verdict.rule}.")


def _evidence(table: pd.DataFrame) -> None:
    st.header("Evidence", anchor=False)
    columns = st.columns(2)
    for place, figure in enumerate(evidence.CHARTED):
        with columns[place % 2]:
            st.caption(figure, help=evidence.explanation(table, figure))
            st.altair_chart(charts.evidence_chart(table, figure=figure), key=f"chart_{figure}")
            st.text(evidence.sentence(table, figure))
    st.dataframe(
        evidence.shown_evidence(table),
        column_config=column_help(evidence.EVIDENCE_LABELS),
        hide_index=True,
        height="content",
        key="evidence",
        placeholder=display.NOT_MEASURED,
        alt="Evidence",
    )
    _csv(table, name="evidence")


def _multiverse(choice: Choice) -> None:
    st.header("Does it hang on settings?", anchor=False)
    st.caption(
        "Every conclusion under every combination of preset, assignment, decoding and choice of "
        "positions: the share of combinations with the sign of the default, and the share in which "
        "it is also beyond the role-exchange null, with an interval that leaves out 0."
    )
    table = loaders.multiverse(choice.run, choice.other)
    st.dataframe(
        evidence.shown_multiverse(table),
        column_config=column_help(evidence.MULTIVERSE_LABELS),
        hide_index=True,
        height="content",
        key="multiverse",
        placeholder=display.NOT_MEASURED,
        alt="Conclusions over all settings",
    )
    _csv(table, name="multiverse")


def _csv(table: pd.DataFrame, *, name: str) -> None:
    st.download_button(
        "CSV",
        lambda: export.csv_text(table),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{name}_csv",
        on_click="ignore",
        icon=":material/download:",
        help="This table with all its digits.",
    )


mechanism()
