"""How the figures come about: settings in force, provenance, what was left out, definitions."""

import streamlit as st

from probing.dashboard import agreement
from probing.dashboard.controls import Choice, chosen
from probing.dashboard.parts import csv_button, opening, text_frame
from probing.dashboard.saying import said
from probing.reporting import display, methods, provenance
from probing.settings import Training


def page() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(choice, title="Methods", question="Where do these figures come from?"):
        return
    _in_force(choice)
    _models(choice)
    _noise(choice)
    _sample(choice)
    _skipped(choice)
    agreement.section(choice)
    st.header("What the quantities are", anchor=False)
    text_frame(methods.definitions(), methods.DEFINITION_LABELS, key="definitions")


def _in_force(choice: Choice) -> None:
    st.header("In force", anchor=False)
    asked = provenance.Compared(
        other=choice.other,
        control=choice.control,
        training=Training(),
        decoding=choice.decoding,
        rule=choice.rule,
        examples=1,
        filters=choice.filters,
        weighting=choice.weighting,
    )
    facts = provenance.facts(
        choice.run, choice.every, asked=asked, kind_decoding=choice.kind_decoding
    )
    for name, text in facts:
        if name not in {provenance.TRAINING, provenance.NOISE}:
            left, right = st.columns([1, 7])
            left.caption(name)
            said(text, place=right)


def _models(choice: Choice) -> None:
    st.header("Models", anchor=False)
    table = methods.model_rows(choice.run)
    text_frame(methods.shown_models(table), methods.MODEL_LABELS, key="models")
    csv_button(table, name="models")


def _noise(choice: Choice) -> None:
    st.header("Noise floor", anchor=False)
    floor, table = choice.run.noise_floor, methods.noise_rows(choice.run)
    if floor is None:
        st.text("It was not measured for this run.")
        return
    st.caption(
        "The baseline scored twice, batched as in the run and in another shape, at "
        f"{floor.positions:,} positions of {floor.carriers:,} responses; the top-1 token differs "
        f"at {floor.top1_changed:.1%}. It is rounding, and no null: two models that differ by "
        "noise alone differ by more."
    )
    text_frame(methods.shown_noise(table), methods.NOISE_LABELS, key="noise")
    csv_button(table, name="noise-floor")


def _sample(choice: Choice) -> None:
    st.header("Sample", anchor=False)
    table = methods.sample_rows(choice.run)
    if table.empty:
        st.text("This run keeps no table of its sample.")
        return
    sampling = choice.run.manifest.settings.sampling
    st.caption(f"{sampling.allocation} over {', '.join(sampling.by)}; seed {sampling.seed}.")
    st.dataframe(
        display.lined(table),
        hide_index=True,
        height="content",
        key="sample",
        alt="Wanted, available, taken",
    )
    csv_button(table, name="sample")


def _skipped(choice: Choice) -> None:
    st.header("Left out", anchor=False)
    table = methods.skipped_rows(choice.run)
    if table.empty:
        st.text("No record was skipped.")
        return
    text_frame(methods.shown_skipped(choice.run), methods.SKIPPED_LABELS, key="skipped")
    csv_button(table, name="skipped")


page()
