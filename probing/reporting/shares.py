"""Event and transition tables as a page shows them: the comparisons side by side."""

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from probing.reporting.contrasts import COMPARISON
from probing.reporting.display import (
    Column,
    kind_style,
    labelled,
    percent,
    signed_percent,
    whole,
)
from probing.reporting.filters import Filters
from probing.reporting.outcomes import symmetric_events
from probing.vocabulary import Event

MOST_MODELS = 2
"""Models with shares of their own: other and control. Their difference follows them."""

EVENT_LABELS: dict[str, Column] = {
    "kind": Column("Kind", "By the chosen assignment."),
    "event": Column("Event", "One per position."),
    "share": Column("Share", "Weighted, of the positions above."),
    "share_of_kind": Column("Of its kind", "Share of the positions of this kind."),
    "null": Column(
        "Null",
        "The mean of the share and of that with exchanged roles. By symmetry: exchanging the roles "
        "leaves this event as it is, so the null is the share itself and tells nothing.",
    ),
    "positions": Column("Positions", "How many."),
}

SHARES = ("share", "share_of_kind", "null")
"""Figures of these tables that are shares of a whole."""

BY_SYMMETRY = "by symmetry"
"""Stands for a null that equals its share whatever happened."""


def event_labels(table: pd.DataFrame) -> dict[str, Column]:
    """Columns of an event table that a page shows, in order.

    Beside a control there is no room for the shares of a kind; the CSV has them.

    Args:
        table: of `event_tables`.
    """
    if _alone(table):
        return EVENT_LABELS
    figures = {name: EVENT_LABELS[name] for name in ("share", "null", "positions")}
    return {name: EVENT_LABELS[name] for name in ("kind", "event")} | _beside(table, figures)


def shown_events(table: pd.DataFrame) -> Styler:
    """An event table for a page: one row per event, the comparisons side by side.

    Args:
        table: of `event_tables`.
    """
    labels = event_labels(table)
    wide = _wide(table, keys=["kind", "event"])
    styler = labelled(wide[list(labels)], labels).style
    rows = np.flatnonzero(wide["null_by_symmetry"])
    nulls = [
        labels[name].label
        for name in (_nth("null", i) for i in range(MOST_MODELS))
        if name in labels
    ]
    styler = _figures(styler, labels).format(lambda _: BY_SYMMETRY, subset=(rows, nulls))
    return styler.map(kind_style, subset=["Kind"])


TRANSITION_LABELS: dict[str, Column] = {
    "baseline": Column("Under the baseline", "Kind by the baseline's distribution."),
    "other": Column("Under the other", "Kind by the other model's, or the control's."),
}


def transition_labels(table: pd.DataFrame) -> dict[str, Column]:
    """Columns of a table of transitions that a page shows, in order.

    Args:
        table: of `transition_tables`.
    """
    figures = {name: EVENT_LABELS[name] for name in ("share", "positions")}
    return TRANSITION_LABELS | (figures if _alone(table) else _beside(table, figures))


def shown_transitions(table: pd.DataFrame) -> Styler:
    """Transitions that occur, the largest first, the comparisons side by side.

    Args:
        table: of `transition_tables`.
    """
    labels, keys = transition_labels(table), list(TRANSITION_LABELS)
    occurring = table[table["positions"].fillna(0) > 0].set_index(keys).index.unique()
    wide = _wide(table, keys=keys)
    wide = wide[wide.set_index(keys).index.isin(occurring)]
    wide = wide.sort_values("share", ascending=False, kind="stable")
    styler = _figures(labelled(wide[list(labels)], labels).style, labels)
    return styler.map(kind_style, subset=[column.label for column in TRANSITION_LABELS.values()])


def printed_shares(table: pd.DataFrame) -> pd.DataFrame:
    """A table of shares for a terminal, as text: the comparisons of one row together.

    Pairs of kinds that occur in no comparison are left out.

    Args:
        table: of `event_tables` or `transition_tables`.
    """
    events = "event" in table
    keys = ["kind", "event"] if events else ["baseline", "other"]
    groups = table.groupby(keys, sort=False)
    shown = table.iloc[np.argsort(groups.ngroup().to_numpy(), kind="stable")]
    if not events:
        shown = shown[groups["positions"].transform("sum").loc[shown.index] > 0]
    apart = shown["positions"].isna()
    texts = {
        name: shown[name].map(percent).mask(apart, shown[name].map(signed_percent))
        for name in SHARES
        if name in shown
    }
    if events:
        texts["null"] = texts["null"].mask(shown["null_by_symmetry"], BY_SYMMETRY)
    texts["positions"] = shown["positions"].map(whole)
    return shown.assign(**texts)[[*keys, COMPARISON, *texts]]


def _beside(table: pd.DataFrame, figures: dict[str, Column]) -> dict[str, Column]:
    """Labels of the columns of `_wide`, figure by figure: other, control, difference of shares."""
    *pair, difference = dict.fromkeys(table[COMPARISON])
    labels: dict[str, Column] = {}
    for figure, column in figures.items():
        labels |= {
            _nth(figure, place): Column(f"{column.label} {name}", column.explanation)
            for place, name in enumerate(pair)
        }
        if figure == "share":
            apart = Column(f"{column.label} {difference}", "Difference of the two shares.")
            labels[_nth(figure, len(pair))] = apart
    return labels


def _alone(table: pd.DataFrame) -> bool:
    """Whether no control stands beside the other model."""
    return table[COMPARISON].nunique() == 1


def _wide(table: pd.DataFrame, *, keys: list[str]) -> pd.DataFrame:
    """A table of comparisons with one row per key; the comparisons' columns are numbered."""
    parts = [own.drop(columns=COMPARISON) for _, own in table.groupby(COMPARISON, sort=False)]
    first, *rest = parts
    for place, part in enumerate(rest, start=1):
        own = part.rename(columns={c: _nth(str(c), place) for c in part if c not in keys})
        first = first.merge(own, on=keys, how="left")
    return first.reset_index(drop=True)


def _figures(styler: Styler, labels: dict[str, Column]) -> Styler:
    """Shares and counts as one reads them; a difference of shares has a sign."""
    forms = {"share": percent, "share_of_kind": percent, "null": percent, "positions": whole}
    forms = {
        _nth(name, place): form for name, form in forms.items() for place in range(MOST_MODELS)
    }
    forms[_nth("share", MOST_MODELS)] = signed_percent
    return styler.format({labels[name].label: forms[name] for name in labels if name in forms})


def _nth(figure: str, place: int) -> str:
    """Name of a comparison's column in `_wide`; that of the first is as in the table."""
    return f"{figure}_{place}" if place else figure


def both_sums(table: pd.DataFrame) -> str:
    """The two counts that go by the name of strict lock, under the other model and the control.

    Args:
        table: of `event_tables`.
    """
    pair = list(dict.fromkeys(table[COMPARISON]))[:MOST_MODELS]
    texts = []
    for name in pair:
        share = table[table[COMPARISON] == name].set_index("event")["share"]
        strict, softened = (
            float(share.get(event.value, 0.0)) for event in (Event.STRICT_LOCK, Event.SOFTENED)
        )
        both = f"strict lock {percent(strict)}, with softened {percent(strict + softened)}"
        texts.append(f"{name} {both}" if len(pair) > 1 else both)
    return f"{'; '.join(texts)} of positions"


def symmetry_text(filters: Filters) -> str:
    """Which events' nulls say nothing under these filters; empty if none."""
    names = [event.value for event in Event if event.value in symmetric_events(filters)]
    return f"{', '.join(names)} stay what they are when the roles are exchanged" if names else ""
