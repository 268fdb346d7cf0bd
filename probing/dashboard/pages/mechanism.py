"""Was it the SSD effect? The verdict, the evidence with its nulls, and what hangs on settings."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import altair as alt
import pandas as pd
import streamlit as st

from probing.dashboard import loaders
from probing.dashboard.controls import Choice, chosen
from probing.dashboard.filtering import URL, whole_number
from probing.dashboard.parts import csv_button, opening, report_button, text_frame
from probing.dashboard.saying import said
from probing.errors import ProbingError
from probing.reporting import charts, evidence, tables
from probing.reporting import mechanism_charts as drawing
from probing.reporting.curves import MATCHED_QUANTITIES, CurvesAsked
from probing.reporting.filters import options
from probing.reporting.mechanism import Asked, Findings, Found
from probing.reporting.quantities import QUANTITIES
from probing.reporting.sweeps import Sweep
from probing.reporting.text import escaped
from probing.settings import Training
from probing.vocabulary import Stratum

DEFAULT = Training()

SWEPT: dict[str, tuple[float, ...]] = {
    "lock_top1": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "lock_nucleus": (1, 2, 3, 5, 8, 12),
    "lock_tail": (0.005, 0.01, 0.02, 0.05, 0.1),
    "fork_tail": (0.02, 0.05, 0.1, 0.15, 0.25),
    "close_ratio": (0.1, 0.15, 0.25, 0.4, 0.6),
    "fork_close_tokens": (2, 3, 4),
}
"""Where the page puts each threshold; `probing sweep` takes any values."""

LEGEND = "● estimate, ━ 95 % interval, long tick: exchange null, short tick: drift null"


def mechanism() -> None:
    """Draw the page."""
    choice = chosen()
    if not opening(choice, title="Mechanism", question="What did training do?"):
        return
    training = _training(choice)
    asked = Asked(
        training=training,
        rule=choice.rule,
        weighting=choice.weighting,
        filters=dataclasses.replace(choice.filters, kind=(), event=()),
    )
    try:
        found = loaders.mechanism(choice.run, _names(choice), asked=asked)
    except ProbingError as error:
        st.error("These samples have no target here.", icon=":material/error:")
        said(str(error))
        return
    _verdicts(found.models)
    report_button(choice, training=training)
    table = tables.evidence_table(found, asked=asked)
    _evidence(choice, table, found=found, asked=asked)
    _progress(choice, found.models, asked=asked)
    _beside_temperature(choice, found.models, asked=asked)
    _curves(choice)
    _either_text(choice, asked=asked)
    _sweep(choice)
    _multiverse(choice)


def _names(choice: Choice) -> tuple[str, ...]:
    return (choice.other, choice.control) if choice.control else (choice.other,)


def _training(choice: Choice) -> Training:
    """How the samples were drawn that the model was trained on."""
    st.text("How the responses were sampled that the model was trained on:")
    left, middle, right = st.columns(3)
    temperature = left.number_input(
        "Training temperature",
        min_value=0.05,
        value=DEFAULT.temperature,
        step=0.05,
        format="%.2f",
        key="train_temperature",
        bind=URL,
        help="The target of self-distillation is made from it, from top-k and from top-p.",
    )
    top_k = whole_number(
        middle,
        "Training top-k",
        ends=(0, choice.run.manifest.settings.store.top_k),
        value=float(DEFAULT.top_k),
        key="train_top_k",
        help="0: the samples were not truncated by rank.",
    )
    top_p = right.number_input(
        "Training top-p",
        min_value=0.05,
        max_value=1.0,
        value=DEFAULT.top_p,
        step=0.05,
        format="%.2f",
        key="train_top_p",
        bind=URL,
        help="1: the samples were not truncated by mass.",
    )
    told = Training(temperature=round(temperature, 4), top_k=top_k, top_p=round(top_p, 4))
    assumed = tuple(
        name
        for name in ("temperature", "top_k", "top_p")
        if getattr(told, name) == getattr(DEFAULT, name)
    )
    if assumed:
        st.caption(
            f"Left at what the page assumes: {', '.join(assumed)}. Say how the samples were drawn: "
            "slope, gap, support and verdict are about this target.".replace("_", "-")
        )
    return dataclasses.replace(told, assumed=assumed)


def _verdicts(found: Mapping[str, Found]) -> None:
    for column, (name, one) in zip(st.columns(len(found)), found.items(), strict=True):
        with column.container(border=True):
            st.caption(f"Verdict on {escaped(name)}")
            st.subheader(escaped(str(one.verdict.mechanism)), anchor=False)
            said(f"{one.verdict.rule}.")


def _evidence(choice: Choice, table: pd.DataFrame, *, found: Findings, asked: Asked) -> None:
    st.header("Evidence", anchor=False)
    st.caption(
        "Every figure stands beside two nulls: what selection alone gives with the models' roles "
        "exchanged, and what noise gives that costs as much KL (drift). A direction is claimed "
        "beyond both. Filters of kind and event do not apply here."
    )
    st.text(LEGEND)
    _charts(
        [
            _Drawn(
                evidence.TITLES[figure],
                charts.evidence_chart(table, figure=figure),
                evidence.sentence(table, figure),
                help=evidence.explanation(table, figure),
            )
            for figure in evidence.CHARTED
        ],
        key="evidence_chart",
    )
    text_frame(evidence.wide_evidence(table), evidence.wide_labels(table), key="evidence")
    said("\n".join(tables.evidence_notes(table, found=found, asked=asked)))
    csv_button(table, name="evidence")


def _progress(choice: Choice, found: Mapping[str, Found], *, asked: Asked) -> None:
    st.header("How far towards the target?", anchor=False)
    st.caption(
        "The fall of the cross-entropy to the target, which is exactly the sum of its two parts, "
        "by kind and by what happened to the position. Any noise moves away from the target, so "
        "read each part beside its nulls; the direction is told by the slope."
    )
    parts = [
        loaders.progress(choice.run, name, one, asked=asked).assign(comparison=name)
        for name, one in found.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    text_frame(evidence.shown_progress(table), evidence.PROGRESS_LABELS, key="progress")
    csv_button(table, name="progress")


def _beside_temperature(choice: Choice, found: Mapping[str, Found], *, asked: Asked) -> None:
    st.header("Was it a change of temperature?", anchor=False)
    st.caption(
        "T* is the temperature at which the baseline comes closest to the other model. What a "
        "temperature alone would change is in the first delta, and not in the one against the "
        "baseline at T*."
    )
    parts = [
        loaders.beside_temperature(choice.run, name, one, asked=asked).assign(comparison=name)
        for name, one in found.items()
    ]
    for name, one in found.items():
        said(evidence.temperature_sentence(name, one.evidence.temperature))
    table = pd.concat(parts, ignore_index=True)
    text_frame(evidence.shown_temperature(table), evidence.TEMPERATURE_LABELS, key="temperature")
    csv_button(table, name="beside-temperature")


def _curves(choice: Choice) -> None:
    st.header("Do locks and forks part over temperature?", anchor=False)
    st.caption(
        "What top-k and top-p leave at each temperature of evaluation, of both models; and their "
        "difference where both leave as much mass in the top k, so that a mere change of "
        "temperature is none. All headline positions."
    )
    if not _wanted("Draw the curves", key="curves_wanted"):
        return
    asked = CurvesAsked(
        decoding=choice.decoding,
        rule=choice.rule,
        assignment=choice.filters.assignment,
        weighting=choice.weighting,
    )
    try:
        made = loaders.curves(choice.run, choice.other, asked=asked)
    except ProbingError as error:
        said(str(error))
        return
    drawn = [
        _Drawn(
            "Mass of the likeliest tokens",
            drawing.mass_chart(made.by_rank),
            drawing.mass_sentence(made.by_rank),
        )
    ]
    for name in MATCHED_QUANTITIES:
        at_t, matched = made.by_temperature, made.matched
        drawn += [
            _Drawn(
                f"{QUANTITIES[name].label}, at the same temperature",
                drawing.temperature_chart(at_t, quantity=name),
                drawing.temperature_sentence(at_t, quantity=name),
            ),
            _Drawn(
                f"{QUANTITIES[name].label}, other − baseline at equal top-k mass",
                drawing.matched_chart(matched, quantity=name),
                drawing.matched_sentence(matched, quantity=name),
            ),
        ]
    _charts(drawn, key="curve")
    with st.container(horizontal=True):
        for name in ("by_rank", "by_temperature", "matched"):
            csv_button(
                getattr(made, name),
                name=f"curves-{name.replace('_', '-')}",
                label=name.replace("_", "-").capitalize(),
            )


def _sweep(choice: Choice) -> None:
    """One threshold of the kinds over its values."""
    st.header("Does it hang on a threshold?", anchor=False)
    threshold = st.selectbox(
        "Threshold",
        list(SWEPT),
        index=None,
        key="sweep",
        bind=URL,
        placeholder="none",
        help="Of the kinds; every other threshold stays at the preset's.",
    )
    if threshold is None:
        return
    sweep = Sweep(
        threshold=threshold,
        values=SWEPT[threshold],
        rule=choice.rule,
        assignment=choice.filters.assignment,
        decoding=choice.decoding,
        weighting=choice.weighting,
    )
    table = loaders.sweep(choice.run, choice.other, sweep=sweep)
    _charts(
        [
            _Drawn(
                f"{QUANTITIES[name].label}, other − baseline",
                drawing.sweep_chart(table, quantity=name),
                drawing.sweep_sentence(table, quantity=name),
            )
            for name in sweep.quantities
        ],
        key="sweep_chart",
    )
    csv_button(table, name="sweep")


def _either_text(choice: Choice, *, asked: Asked) -> None:
    """The same evidence on the responses that each model wrote."""
    generators = options(choice.kept, Stratum.GENERATOR)
    if len(generators) < 2:
        return
    st.header("On whose text?", anchor=False)
    st.caption(
        "The evidence on the responses of each generator. A model is at home on its own text, so "
        "what holds on one text alone may be the text's."
    )
    if not _wanted("Weigh the evidence on each generator's text", key="either_text"):
        return
    table = loaders.evidence_by_text(choice.run, _names(choice), asked=asked)
    text_frame(evidence.shown_texts(table), evidence.TEXT_LABELS, key="texts")
    csv_button(table, name="evidence-by-text")


def _multiverse(choice: Choice) -> None:
    st.header("Does it hang on settings?", anchor=False)
    st.caption(
        "Every conclusion under every combination of preset, assignment, decoding and choice of "
        "positions: the share of combinations with the sign of the default, and the share in which "
        "it is also beyond the role-exchange null, with an interval that leaves out 0."
    )
    if not _wanted("Combine all settings", key="multiverse_wanted"):
        return
    table = loaders.multiverse(choice.run, choice.other)
    text_frame(evidence.shown_multiverse(table), evidence.MULTIVERSE_LABELS, key="multiverse")
    csv_button(table, name="multiverse")


class _Drawn(NamedTuple):
    """A chart with its title, its reading in words, and what explains it."""

    title: str
    chart: alt.LayerChart
    said: str
    help: str | None = None


def _charts(drawn: Sequence[_Drawn], *, key: str) -> None:
    """Charts two a row, each under its title and over its reading."""
    for start in range(0, len(drawn), 2):
        for place, column in enumerate(st.columns(2), start=start):
            if place < len(drawn):
                one = drawn[place]
                column.caption(one.title, help=one.help)
                column.altair_chart(one.chart, key=f"{key}_{place}")
                column.caption(escaped(one.said))


def _wanted(label: str, *, key: str) -> bool:
    """Whether a section that takes some seconds is asked for."""
    return st.toggle(label, key=key, bind=URL, help="Takes some seconds, once.")


mechanism()
