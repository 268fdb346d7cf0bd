"""The sidebar: which run, which pair, which decoding, which positions. All of it in the URL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st

from probing.dashboard import loaders
from probing.dashboard.filtering import KEYS, URL, chosen_filters, whole_number
from probing.dashboard.loaders import Made
from probing.dashboard.saying import said
from probing.errors import NoCarriersLeft, OutsideContract, ProbingError
from probing.reporting import display, filters, tables
from probing.reporting.cells import columns_apart
from probing.reporting.comparison import KIND_DECODING, other_names
from probing.reporting.deltas import DEFAULT_INFERENCE
from probing.reporting.drifting import NOT_KNOWN, DriftAsked, DriftNull
from probing.reporting.filters import Average, Filters, Weighting
from probing.reporting.remaking import Ranking, TableSettings, made
from probing.reporting.text import line
from probing.settings import DEFAULT_ASSIGNMENT, KIND_PRESETS, Decoding, KindRule
from probing.store.reader import BLOCK_ROWS, Run
from probing.vocabulary import Assignment

NO_CONTROL = "none"
PINNED = "pinned"
"""Where Examples keeps the position that it shows apart from its ranking."""

CHOICE = "choice"
"""Where the frame leaves the choice for the page."""

TEMPERATURE_STEP = 0.05

DRAWN_AT_ONCE = 4_096
"""Positions that may be read for a drift null that nobody asked for: some two seconds."""

NOT_DRAWN = replace(
    NOT_KNOWN, note="The drift null of so many positions is drawn when it is asked for"
)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the sidebar says, and the positions it leaves.

    Attributes:
        name: of the run, as it is listed.
        runs: locations of all runs that can be chosen, by name.
        run: the opened run.
        other: the model compared with the baseline.
        control: the model beside it, if any.
        decoding: of every figure.
        kind_decoding: under which kinds are taken.
        rule: thresholds of the kinds.
        weighting: which positions carry a figure, and what each counts.
        filters: what is kept.
        standing: all positions of the run under other, control, and other - control: places, kinds
            and events, without values.
        left: what the filters leave of those under the other model.
    """

    name: str
    runs: Mapping[str, str]
    run: Run
    other: str
    control: str | None
    decoding: Decoding
    kind_decoding: Decoding
    rule: KindRule
    weighting: Weighting
    filters: Filters
    standing: Mapping[str, pd.DataFrame]
    left: loaders.Left

    @property
    def kept(self) -> pd.DataFrame:
        """The positions that pass the filters, with `loaders.LEFT_COLUMNS`."""
        return self.left.positions

    @property
    def every(self) -> pd.DataFrame:
        """All positions of the run, the other model compared with the baseline."""
        return self.standing[self.other]

    def compared(self, quantities: Sequence[str] = ()) -> Mapping[str, pd.DataFrame]:
        """All positions of the run under each comparison, with the values of these quantities."""
        if not quantities:
            return self.standing
        return loaders.comparisons(self.run, self.standing, self._settings(quantities, ()))

    def held(
        self, quantities: Sequence[str], *, grouped: Sequence[str] = ()
    ) -> Mapping[str, pd.DataFrame]:
        """The same in cells: all that tables of means need, and many times fewer rows.

        Args:
            quantities: whose values are wanted.
            grouped: strata by which a table groups; those of the filters are known.
        """
        settings = self._settings(quantities, columns_apart(self.filters, grouped))
        return loaders.held(self.run, settings, lambda: self.compared(quantities))

    def _settings(self, quantities: Sequence[str], by: Sequence[str]) -> loaders.CellSettings:
        return loaders.CellSettings(
            other=self.other,
            control=self.control,
            decoding=self.decoding,
            kind_decoding=self.kind_decoding,
            rule=self.rule,
            quantities=tuple(quantities),
            by=tuple(by),
        )

    def asked(
        self,
        table: str,
        *,
        by: Sequence[str] | None = None,
        quantities: Sequence[str] | None = None,
        ranking: Ranking | None = None,
        at: str | None = None,
        carrier: str | None = None,
    ) -> TableSettings:
        """Everything behind one table: what the sidebar says, and what its page adds.

        Args:
            table: its name.
            by: strata that group.
            quantities: what is averaged, with intervals; None where nothing is.
            ranking: of a list of positions.
            at: name of the one position.
            carrier: id of the one response.
        """
        return TableSettings(
            table=table,
            other=self.other,
            control=self.control,
            decoding=self.decoding,
            kind_decoding=self.kind_decoding,
            kind_rule=self.rule,
            filters=self.filters,
            weighting=self.weighting,
            by=None if by is None else tuple(by),
            quantities=None if quantities is None else tuple(quantities),
            inference=None if quantities is None else DEFAULT_INFERENCE,
            ranking=ranking,
            at=at,
            carrier=carrier,
        )

    def made(self, asked: TableSettings) -> pd.DataFrame:
        """The table that is asked for; one of groups is made once, for every session."""

        def make() -> pd.DataFrame:
            means = asked.quantities is not None
            compared = (
                self.held(asked.values, grouped=asked.by or ())
                if means
                else self.compared(asked.values)
            )
            return made(self.run, compared, asked, drifts=self.drifts)

        return make() if asked.of_positions else self.result("table", asked, make)

    def result(self, what: str, asked: TableSettings, make: Callable[[], Made]) -> Made:
        """Something small that hangs on these settings alone, made once."""
        drawn = self.drift(asked) is not NOT_DRAWN
        return loaders.result(self.run, what, asked, make, drawn=drawn)

    def drift(self, asked: TableSettings) -> DriftNull | None:
        """The drift null beside that table; None where the table has none."""
        return None if asked.drift is None else self.drifts(self.run, asked.drift)

    def drifts(self, run: Run, asked: DriftAsked) -> DriftNull:
        """The drift null, where it is quick to draw or was drawn already; see `drawing`."""
        at_once = self._quick_to_draw or loaders.is_drawn(run, asked)
        return loaders.drift_null(run, asked) if at_once else NOT_DRAWN

    @cached_property
    def _quick_to_draw(self) -> bool:
        # Positions are stored in blocks: one of a block costs as much as all of it.
        held = np.bincount(self.kept["row"].to_numpy() // BLOCK_ROWS)
        read = int(np.count_nonzero(held)) * BLOCK_ROWS
        return min(read, len(self.run)) <= DRAWN_AT_ONCE


def chosen() -> Choice:
    """What the frame has chosen; pages read it."""
    return cast("Choice", st.session_state[CHOICE])


def draw(runs: Mapping[str, str]) -> bool:
    """Draw the sidebar and leave the choice for the page; False when there is nothing to show."""
    if not runs:
        st.title("Probing")
        st.info(
            "No run yet. Make one with `probing demo` or `probing score run.toml`, or name one: "
            "`probing dashboard RUN`.",
            icon=":material/info:",
        )
        return False
    try:
        with st.sidebar:
            st.session_state[CHOICE] = choose(runs)
    except NoCarriersLeft as error:
        return _refuse("This run has nothing to show yet.", error)
    except OutsideContract as error:
        return _refuse("This run cannot answer these settings.", error)
    except ProbingError as error:
        return _refuse("This run cannot be opened.", error)
    return True


def answered(page: Callable[[], None]) -> None:
    """Draw a page; where the run cannot answer it, say why."""
    try:
        page()
    except OutsideContract as error:
        _tell("This run cannot answer these settings.", error)
    except ProbingError as error:
        _tell("This page cannot be drawn.", error)


def foot() -> None:
    """Below the controls: how much the filters leave, the way back, and the link to all of it.

    Drawn after the page, which may have written its own part of the address.
    """
    choice = chosen()
    left, whole = choice.left.counts, choice.left.whole
    with st.sidebar, st.container(key="foot"):
        st.caption(
            f"{left.positions:,} of {whole.positions:,} positions, {left.carriers:,} of "
            f"{whole.carriers:,} responses, {left.problems:,} of {whole.problems:,} problems"
        )
        with st.container(horizontal=True):
            with st.popover(
                "Link",
                icon=":material/link:",
                help="The address of what you see: run, settings, filters, and the position.",
            ):
                st.code(_address(), language=None, wrap_lines=True)
            st.button(
                "Reset",
                icon=":material/restart_alt:",
                on_click=_reset,
                args=(_opening(choice.run),),
                help="This sidebar as it opens; the run and the page's own controls stay.",
            )


def _address() -> str:
    """The address that leads here, with a button beside it that copies it."""
    asked = [(name, value) for name in st.query_params for value in st.query_params.get_all(name)]
    query = urlencode(asked)
    plain = str(st.context.url or "").partition("?")[0]
    return f"{plain}?{query}" if query else plain


def _opening(run: Run) -> dict[str, object]:
    """The sidebar's controls as they open on a run, by their keys."""
    default, other = Decoding(), other_names(run)[0]
    return {
        "other": other,
        "control": tables.control_of(run, other=other) or NO_CONTROL,
        "greedy": False,
        "temperature": default.temperature,
        "top_k": default.top_k,
        "top_p": default.top_p,
        "preset": next(iter(KIND_PRESETS)),
        "assignment": DEFAULT_ASSIGNMENT.value,
        "kinds_follow": False,
        "average": Average.POSITION.value,
        "selector": filters.HEADLINE,
        **{key: [] for key in KEYS.values()},
    }


def _reset(opening: Mapping[str, object]) -> None:
    """Set every control that is there as it opens; the address follows."""
    for key, value in opening.items():
        if key in st.session_state:
            st.session_state[key] = value


def _refuse(what: str, error: ProbingError) -> bool:
    st.title("Probing")
    _tell(what, error)
    return False


def _tell(what: str, error: ProbingError) -> None:
    st.error(what, icon=":material/error:")
    said(str(error))


def choose(runs: Mapping[str, str]) -> Choice:
    """Draw the sidebar's controls and say what they say; drawn for nobody, as they open."""
    name = st.selectbox(
        "Run",
        list(runs),
        format_func=line,
        key="run",
        bind=URL,
        help="Runs in cache/, or those the dashboard was started with.",
    )
    run = loaders.open_listed(runs[name])
    other = st.selectbox(
        "Other model",
        other_names(run),
        format_func=line,
        key="other",
        bind=URL,
        help="Compared with the baseline; every delta is other − baseline.",
    )
    control = _control(run, other)
    decoding = _decoding(run)
    kinds = _kinds(decoding)
    standing = loaders.standing(
        run, other=other, control=control, rule=kinds.rule, kind_decoding=kinds.decoding
    )
    asked = chosen_filters(run, standing[other], other=other, assignment=kinds.assignment)
    return Choice(
        name=name,
        runs=runs,
        run=run,
        other=other,
        control=control,
        decoding=decoding,
        kind_decoding=kinds.decoding,
        rule=kinds.rule,
        weighting=Weighting(selector=asked.selector, average=_average()),
        filters=asked,
        standing=standing,
        left=loaders.left(
            run,
            standing[other],
            asked,
            other=other,
            rule=kinds.rule,
            kind_decoding=kinds.decoding,
        ),
    )


def _control(run: Run, other: str) -> str | None:
    """The model beside the other; there is no control where a run has only one other model."""
    beside = [name for name in other_names(run) if name != other]
    if not beside:
        return None
    usual = tables.control_of(run, other=other) or NO_CONTROL
    options = [NO_CONTROL, *beside]
    control = st.selectbox(
        "Control",
        options,
        index=options.index(usual),
        format_func=line,
        key="control",
        bind=URL,
        help="A model that stands beside the other in every table, with their difference: trained "
        "as long on plain samples, for instance.",
    )
    return None if control == NO_CONTROL else control


def _decoding(run: Run) -> Decoding:
    st.subheader("Decoding", anchor=False)
    grid, default = run.manifest.settings.tail, Decoding()
    greedy = st.toggle(
        "Greedy",
        key="greedy",
        bind=URL,
        help="Temperature 0: the likeliest token has all the mass. Switches temperature, top-k "
        "and top-p off.",
    )
    temperature = st.slider(
        "Temperature",
        min_value=grid.temperature_min,
        max_value=grid.temperature_max,
        value=default.temperature,
        step=TEMPERATURE_STEP,
        key="temperature",
        bind=URL,
        disabled=greedy,
        help="Logits are divided by it before truncation. The run answers any value in this range "
        "without rescoring.",
    )
    left, right = st.columns(2)
    top_k = whole_number(
        left,
        "Top-k",
        ends=(0, run.manifest.settings.store.top_k),
        value=float(default.top_k),
        key="top_k",
        disabled=greedy,
        help="Keep the k likeliest tokens; 0 switches it off. The run knows ranks up to "
        f"{run.manifest.settings.store.top_k} exactly.",
    )
    top_p = right.number_input(
        "Top-p",
        min_value=0.05,
        max_value=1.0,
        value=default.top_p,
        step=0.05,
        format="%.2f",
        key="top_p",
        bind=URL,
        disabled=greedy,
        help="Of what top-k leaves, keep the likeliest tokens until they hold this much; 1 "
        "switches it off.",
    )
    if greedy:
        return Decoding(temperature=0.0)
    return Decoding(temperature=round(temperature, 4), top_k=top_k, top_p=round(top_p, 4))


@dataclass(frozen=True)
class _Kinds:
    rule: KindRule
    assignment: Assignment
    decoding: Decoding


def _kinds(decoding: Decoding) -> _Kinds:
    st.subheader("Kinds", anchor=False)
    preset = st.selectbox(
        "Thresholds",
        list(KIND_PRESETS),
        key="preset",
        bind=URL,
        help="  \n".join(
            f"{name}: {display.rule_text(KIND_PRESETS[name])}" for name in KIND_PRESETS
        ),
    )
    assignment = st.segmented_control(
        "Assigned by",
        [assignment.value for assignment in Assignment],
        default=DEFAULT_ASSIGNMENT.value,
        required=True,
        key="assignment",
        bind=URL,
        help="Whose distribution gives a position its kind: the mean of the two models' "
        "log-distributions, the baseline's, or the other's.",
    )
    follow = st.toggle(
        "Kinds follow the decoding",
        key="kinds_follow",
        bind=URL,
        help=f"Off: kinds are taken at {display.decoding_text(KIND_DECODING)}, so a position keeps "
        "its kind while you move the temperature. On: at the decoding above.",
    )
    return _Kinds(
        rule=KIND_PRESETS[preset],
        assignment=Assignment(assignment or DEFAULT_ASSIGNMENT),
        decoding=decoding if follow else KIND_DECODING,
    )


def _average() -> Average:
    average = st.segmented_control(
        "Average over",
        [average.value for average in Average],
        default=Average.POSITION.value,
        required=True,
        key="average",
        bind=URL,
        help="Position: every response token counts alike, so long responses count more. Carrier: "
        "every response counts alike.",
    )
    return Average(average or Average.POSITION)
