"""The tables of a report, as texts: evidence, deltas, assignments, shares, top tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from probing.reporting import display, evidence, headlines, shares
from probing.reporting.contrasts import COMPARISON
from probing.reporting.display import Column, number, signed, whole
from probing.reporting.document import Form, Grid, grid
from probing.reporting.drifting import NULL_DRIFT
from probing.reporting.quantities import QUANTITIES
from probing.reporting.text import shown_token
from probing.vocabulary import Assignment, Stratum

EVIDENCE_ORDER = (
    "primary", "figure", "comparison", "estimate", "interval", "reads", "null_exchange",
    "null_drift", "p_adjusted", "detectable",
)  # fmt: skip
"""Columns of the evidence; what is predicted has a table of its own."""


def evidence_grid(table: pd.DataFrame) -> Grid:
    """The evidence, the comparisons of a figure together.

    Args:
        table: of `predictions.evidence_table`.
    """
    labels = evidence.EVIDENCE_LABELS
    shown = evidence.shown_evidence(_by_figure(table))
    texts = {"primary", "figure", "comparison", "reads"}
    figures = dict.fromkeys(set(EVIDENCE_ORDER) - texts, Form.NUMBER)
    return grid(
        shown.rename(columns={column.label: name for name, column in labels.items()}),
        title="Every figure, and what it would be without an effect",
        labels={name: labels[name] for name in EVIDENCE_ORDER},
        forms=figures,
        texts={},
    )


def prediction_grid(table: pd.DataFrame) -> Grid:
    """What self-distillation predicts of every figure, and for which comparisons.

    Args:
        table: of `predictions.evidence_table`.
    """
    labels = evidence.EVIDENCE_LABELS
    told = _by_figure(table).groupby(["figure", "prediction"], sort=False)[COMPARISON]
    rows = told.agg(", ".join).reset_index()
    return grid(
        rows.assign(figure=rows["figure"].map(evidence.TITLES)),
        title="What self-distillation predicts",
        labels={name: labels[name] for name in ("figure", "prediction", COMPARISON)},
        forms={},
        texts={},
    )


def _by_figure(table: pd.DataFrame) -> pd.DataFrame:
    """The evidence figure by figure, in the order in which they first come."""
    places = {name: place for place, name in enumerate(dict.fromkeys(table["figure"]))}
    return table.iloc[np.argsort(table["figure"].map(places).to_numpy(), kind="stable")]


DELTA_COLUMNS = ("kind", COMPARISON, "baseline", "delta", "interval", "null", "null_drift")
DELTA_COLUMNS_LAST = ("p_adjusted", "reads", "problems")
INTERVAL = Column("95 % interval", "Whole problems are resampled.")
BY_KIND = [Stratum.KIND.value]


def _interval(table: pd.DataFrame) -> list[str]:
    ends = zip(table["low"], table["high"], strict=True)
    return [display.interval_shown(f"{signed(low)} to {signed(high)}") for low, high in ends]


def delta_grid(table: pd.DataFrame, *, quantity: str) -> Grid:
    """Deltas of one quantity by kind, the comparisons of a kind together.

    Args:
        table: of `delta_tables` by kind.
        quantity: which of its quantities.
    """
    own = display.printed_deltas(table[table["quantity"] == quantity], by=BY_KIND)
    known = display.delta_labels(BY_KIND) | {"interval": INTERVAL}
    return grid(
        own.assign(interval=_interval(own)),
        title=f"{QUANTITIES[quantity].label} by kind: change, interval and nulls",
        labels={name: known[name] for name in (*DELTA_COLUMNS, *DELTA_COLUMNS_LAST)},
        forms=dict.fromkeys((*DELTA_COLUMNS[2:], "p_adjusted", "problems"), Form.NUMBER)
        | {"kind": Form.KIND},
        texts=display.DELTA_FORMATS | {"problems": whole},
    )


ALL_MODELS = "all models"
"""Whose distributions give the kinds of a difference of two others, whatever the assignment."""


def assignment_grid(by_assignment: Mapping[Assignment, pd.DataFrame]) -> Grid:
    """The headline deltas under each of the three assignments, those of one model together.

    The difference of other and control takes its kinds from the mean over all models: it stands
    there once.

    Args:
        by_assignment: of `headlines.headline_tables`.
    """
    names = [str(name) for name in dict.fromkeys(by_assignment[Assignment.MEAN][COMPARISON])]
    whose = [
        (name, str(each), table) for name in names[:2] for each, table in by_assignment.items()
    ]
    whose += [(name, ALL_MODELS, by_assignment[Assignment.MEAN]) for name in names[2:]]
    rows = [
        {
            "headline": label,
            COMPARISON: name,
            "assignment": by,
            **headlines.headline_row(table, name, kind, quantity)[[*ESTIMATE]].to_dict(),
        }
        for kind, quantity, label in headlines.HEADLINES
        for name, by, table in whose
    ]
    known = display.DELTA_LABELS | {
        "headline": Column("Figure", "Which quantity at which kind."),
        "interval": INTERVAL,
    }
    table = pd.DataFrame(rows)
    return grid(
        table.assign(interval=_interval(table)),
        title="Headline deltas under the three assignments",
        labels={
            name: known[name]
            for name in ("headline", COMPARISON, "assignment", "delta", "interval", *NULLS)
        },
        forms=dict.fromkeys(("delta", "interval", *NULLS), Form.NUMBER),
        texts=dict.fromkeys(("delta", *NULLS), signed),
    )


NULLS = ("null", NULL_DRIFT)
ESTIMATE = ("delta", "low", "high", *NULLS)


def shares_grid(table: pd.DataFrame, *, title: str, labels: Mapping[str, Column]) -> Grid:
    """Shares of events or transitions, the comparisons of a row together.

    Args:
        table: of `event_tables` or `transition_tables`.
        title: what the table shows.
        labels: of its columns.
    """
    printed = shares.printed_shares(table)
    known = dict(labels) | {COMPARISON: display.DELTA_LABELS[COMPARISON]}
    names = [str(name) for name in printed.columns]
    kinds = dict.fromkeys(("kind", "baseline", "other"), Form.KIND)
    figures = dict.fromkeys((*shares.SHARES, "positions"), Form.NUMBER)
    return grid(
        printed, title=title, labels={n: known[n] for n in names}, forms=kinds | figures, texts={}
    )


def example_grid(table: pd.DataFrame) -> Grid:
    """Both models' top tokens side by side.

    Args:
        table: of `example_table`.
    """
    labels = display.example_labels(table)
    texts: dict[str, Callable[[Any], str]] = {
        "rank": str,
        "other_baseline_rank": whole,
        "rank_change": display.moved,
    }
    for name in labels:
        if name.endswith("_token"):
            texts[name] = lambda token: "" if pd.isna(token) else shown_token(str(token))
        elif name.endswith("_kept_prob"):
            texts[name] = display.kept
        elif name.endswith("_prob"):
            texts[name] = number
    tokens = {name: Form.TOKEN for name in labels if name.endswith("_token")}
    return grid(
        table,
        title="Top tokens of both models",
        labels=labels,
        forms=dict.fromkeys(labels, Form.NUMBER) | tokens,
        texts=texts,
    )
