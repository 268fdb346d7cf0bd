"""The same deltas in another run of the cache, beside those of this one."""

import dataclasses
from collections.abc import Mapping

import pandas as pd
import streamlit as st

from probing.dashboard import loaders
from probing.dashboard.controls import Choice
from probing.dashboard.filtering import URL
from probing.dashboard.parts import csv_button, delta_frame, quantity_chart
from probing.dashboard.saying import said
from probing.errors import ProbingError
from probing.reporting import charts, filters
from probing.reporting.comparison import other_names
from probing.reporting.contrasts import COMPARISON
from probing.reporting.text import escaped, line
from probing.store.reader import Run
from probing.vocabulary import Stratum

KEY = "beside"
"""The control, and the part of the address, that names the other run."""

NO_RUN = "none"
CHARTED = ("top1_prob", "tail_mass", "entropy_kept_nats", "nucleus_size")
BY = [Stratum.KIND.value]


def beside(choice: Choice) -> None:
    """A run to stand beside this one, and what both say of each kind; nothing with one run."""
    names = [name for name in choice.runs if choice.runs[name] != choice.run.location]
    if not names:
        return
    st.header("Beside another run", anchor=False)
    left, right = st.columns(2)
    name = left.selectbox(
        "The other run",
        [NO_RUN, *names],
        format_func=line,
        key=KEY,
        bind=URL,
        help="Its deltas are taken under the same decoding, kinds and filters.",
    )
    if name == NO_RUN:
        return
    try:
        run = loaders.open_listed(choice.runs[name])
        models = other_names(run)
        model = right.selectbox(
            "Its other model",
            models,
            index=models.index(choice.other) if choice.other in models else 0,
            format_func=line,
            key="beside_other",
            bind=URL,
            help="Compared with the baseline of its own run.",
        )
        there = _as_here(choice, run=run, other=model)
        table = _both({choice.name: choice, name: there})
    except ProbingError as error:
        st.error("That run cannot answer these settings.", icon=":material/error:")
        said(str(error))
        return
    drawn = charts.delta_specs(table, quantities=CHARTED, by=BY)
    for column, (quantity, chart) in zip(st.columns(len(CHARTED)), drawn.items(), strict=True):
        with column:
            quantity_chart(chart, quantity=quantity, pick=False, prefix=KEY)
    delta_frame(table, by=BY, key="runs")
    st.caption(_said(choice, there, name))
    csv_button(table, name="two-runs")


def _as_here(choice: Choice, *, run: Run, other: str) -> Choice:
    """The same choice in another run, without a control.

    Raises:
        UsageFault: a filter names a label that no position of that run has.
        OutsideContract: the run cannot answer the decoding.
    """
    standing = loaders.standing(
        run, other=other, control=None, rule=choice.rule, kind_decoding=choice.kind_decoding
    )
    filters.require_known(standing[other], filters=choice.filters)
    return dataclasses.replace(
        choice,
        run=run,
        other=other,
        control=None,
        standing=standing,
        left=loaders.left(
            run,
            standing[other],
            choice.filters,
            other=other,
            rule=choice.rule,
            kind_decoding=choice.kind_decoding,
        ),
    )


def _both(choices: Mapping[str, Choice]) -> pd.DataFrame:
    """The deltas by kind of every run, comparisons under the run's name."""
    tables = []
    for name, choice in choices.items():
        alone = dataclasses.replace(choice, control=None)
        table = alone.made(alone.asked("deltas", by=BY, quantities=CHARTED))
        tables.append(table.assign(**{COMPARISON: f"{name}: {choice.other}"}))
    return pd.concat(tables, ignore_index=True)


def _said(here: Choice, there: Choice, name: str) -> str:
    """How far the two can be held against each other."""
    problems = [set(each.kept["problem_id"].unique()) for each in (here, there)]
    baselines = [escaped(each.run.model_names[0]) for each in (here, there)]
    same = "the same name" if baselines[0] == baselines[1] else f"{baselines[0]} and {baselines[1]}"
    return (
        f"Baselines: {same}. Under the filters {len(problems[0]):,} problems here, "
        f"{len(problems[1]):,} in {escaped(name)}, {len(problems[0] & problems[1]):,} in "
        "both by their ids. Intervals and p-values are of each run by itself: no difference of the "
        "two is tested."
    )
