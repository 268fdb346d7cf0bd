"""The filters of the sidebar: which positions are looked at."""

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from probing.dashboard import loaders
from probing.reporting import display, filters
from probing.reporting.filters import HEADLINE, Filters
from probing.reporting.happenings import EVENT_NAMES
from probing.reporting.text import escaped
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, Stratum

URL: Final = "query-params"
"""Bind a control to the address, under its key."""

LARGEST: Final = 2**53 - 1
"""Whole numbers up to it are the same in Python and in a browser."""


def whole_number(
    place: DeltaGenerator | None,
    label: str,
    *,
    key: str,
    ends: tuple[int, int | None],
    **options: Any,
) -> int:
    """A control for a whole number, bound to the address.

    Streamlit has it as any number: of a whole one it fails where an address says infinity.

    Args:
        place: where it is drawn; None for the page.
        label: above it.
        key: of the control, and its part of the address.
        ends: the least and the largest that it takes.
        options: as of `st.number_input`.
    """
    low, high = ends
    return int(
        (st if place is None else place).number_input(
            label,
            min_value=float(low),
            max_value=float(LARGEST if high is None else high),
            step=1.0,
            format="%.0f",
            key=key,
            bind=URL,
            **options,
        )
    )


@dataclass(frozen=True)
class _Pills:
    """One filter over a stratum."""

    label: str
    key: str
    help: str


POST_TREATMENT = (
    "Decided after training, so across generators it is no neutral stratum. None chosen: all."
)
FIRST: dict[Stratum, _Pills] = {
    Stratum.LENGTH: _Pills(
        "Response length", "length", f"Quantile bins over this run's responses. {POST_TREATMENT}"
    ),
    Stratum.CORRECT: _Pills(
        "Answer", "correct", f"Whether the response was graded right. {POST_TREATMENT}"
    ),
    Stratum.GENERATOR: _Pills(
        "Written by",
        "generator",
        "The model that wrote the response. Its own text flatters it. None chosen: all.",
    ),
}
MORE: dict[Stratum, _Pills] = {
    Stratum.RIGHT: _Pills(
        "Which model got it right",
        "right",
        "By the majority of each model's graded responses to the problem; a tie or no grade is "
        f"unknown. {POST_TREATMENT}",
    ),
    Stratum.PHASE: _Pills("Phase", "phase", "Before or after the thought is closed."),
    Stratum.TOKEN_CLASS: _Pills(
        "Token", "token", "What the response's own token is made of. None chosen: all."
    ),
    Stratum.SAMPLING_TEMPERATURE: _Pills(
        "Sampled at", "sampled", "The temperature at which the response was written."
    ),
    Stratum.SUBJECT: _Pills("Subject", "subject", "As the responses say. None chosen: all."),
    Stratum.DIFFICULTY: _Pills("Difficulty", "difficulty", "As the responses say."),
    Stratum.SOURCE: _Pills("Source", "source", "As the responses say. None chosen: all."),
}
"""Shown where the run has more than one label."""

KEYS: dict[Stratum, str] = {
    Stratum.KIND: "kind",
    Stratum.EVENT: "event",
    **{stratum: pills.key for stratum, pills in (FIRST | MORE).items()},
}
"""The control, and the part of the address, that filters by each stratum."""


def chosen_filters(run: Run, every: pd.DataFrame, *, other: str, assignment: Assignment) -> Filters:
    """Draw the filters and say what is chosen.

    Args:
        run: the run.
        every: all its positions, compared.
        other: whom with.
        assignment: whose kind and event the filters mean.
    """
    st.subheader("Positions", anchor=False)
    selector = st.selectbox(
        "Chosen by",
        filters.selector_options(run.manifest.selector_names),
        format_func=display.selector_label,
        key="selector",
        bind=URL,
        help="Headline figures rest on positions chosen without looking at the text, weighted by "
        "inverse inclusion probability. The others select on content.",
    )
    kinds = st.pills(
        "Kind",
        [kind.value for kind in Kind],
        selection_mode="multi",
        key=KEYS[Stratum.KIND],
        bind=URL,
        help="By the assignment above. None chosen: all.",
    )
    labels = {
        stratum: _labels(run, every, stratum, pills, other=other)
        for stratum, pills in FIRST.items()
    }
    with st.expander("More filters"):
        events = st.multiselect(
            "Event",
            EVENT_NAMES,
            key=KEYS[Stratum.EVENT],
            bind=URL,
            placeholder="any event",
            help="What happened to the position, by the assignment above. Events look at the "
            "outcome: read their deltas beside the null.",
        )
        labels |= {
            stratum: _labels(run, every, stratum, pills, other=other)
            for stratum, pills in MORE.items()
        }
    return Filters(
        kind=tuple(kinds),
        event=tuple(events),
        **{stratum.value: chosen for stratum, chosen in labels.items()},
        selector=selector or HEADLINE,
        assignment=assignment,
    )


def _labels(
    run: Run, every: pd.DataFrame, stratum: Stratum, pills: _Pills, *, other: str
) -> tuple[str, ...]:
    options = loaders.options(run, every, stratum, other=other)
    if len(options) < 2 and stratum in MORE:
        return ()
    return tuple(
        st.pills(
            pills.label,
            options,
            selection_mode="multi",
            format_func=escaped,
            key=pills.key,
            bind=URL,
            help=pills.help,
        )
    )
