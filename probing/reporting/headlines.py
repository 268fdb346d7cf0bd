"""The four deltas that a page opens with, and what they allow to be said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from probing.reporting.contrasts import COMPARISON, delta_tables
from probing.reporting.deltas import DEFAULT_FILTERS, DEFAULT_INFERENCE, DEFAULT_WEIGHTING
from probing.reporting.display import signed
from probing.reporting.drifting import NOT_KNOWN, NULL_DRIFT, DriftNull, with_drift
from probing.reporting.filters import Filters, Weighting
from probing.reporting.quantities import QUANTITIES
from probing.settings import DEFAULT_ASSIGNMENT, Inference
from probing.vocabulary import Assignment, Kind, Stratum


@dataclass(frozen=True)
class Headline:
    """One delta in words; `beside` is the control's and `apart` the difference, or empty."""

    label: str
    value: str
    interval: str
    beside: str
    apart: str
    explanation: str


HEADLINES = (
    (Kind.LOCK, "top1_prob", "Locks: top-1"),
    (Kind.LOCK, "tail_mass", "Locks: tail mass"),
    (Kind.FORK, "entropy_kept_nats", "Forks: entropy kept"),
    (Kind.FORK, "tail_mass", "Forks: tail mass"),
)
"""What the theory speaks of: locks sharpen and lose their tail; forks stay open and lose theirs."""

HEADLINE_QUANTITIES = tuple(dict.fromkeys(quantity for _, quantity, _ in HEADLINES))


def headlines(table: pd.DataFrame) -> list[Headline]:
    """The headline deltas of a table of `delta_tables` by kind."""
    names = list(dict.fromkeys(table[COMPARISON]))
    found = []
    for kind, quantity, label in HEADLINES:
        row, *rest = (headline_row(table, name, kind, quantity) for name in names)
        beside, apart = (signed(other["delta"]) for other in rest) if rest else ("", "")
        found.append(
            Headline(
                label=label,
                value=signed(row["delta"]),
                interval=f"{signed(row['low'])} to {signed(row['high'])}",
                beside=beside,
                apart=apart,
                explanation=f"{QUANTITIES[quantity].label}. {QUANTITIES[quantity].explanation}",
            )
        )
    return found


def headline_tables(
    compared: Mapping[str, pd.DataFrame],
    *,
    filters: Filters = DEFAULT_FILTERS,
    weighting: Weighting = DEFAULT_WEIGHTING,
    inference: Inference = DEFAULT_INFERENCE,
    drift: DriftNull | None = None,
    known: Mapping[Assignment, pd.DataFrame] | None = None,
) -> dict[Assignment, pd.DataFrame]:
    """The headline quantities by kind, under each of the three assignments, beside both nulls.

    Args:
        compared: of `comparisons`.
        filters: which positions are kept; their assignment is replaced by each in turn.
        weighting: as `delta_tables`.
        inference: as `delta_tables`.
        drift: of the same settings; without it the drift null is not known, nor any direction.
        known: such tables that are at hand, with at least these quantities. What is found beside
            them is what `sentence` reads: other than under the default assignment, the first
            comparison alone.
    """
    found = dict(known or {})
    first = next(iter(compared))
    for assignment in Assignment:
        if assignment in found:
            continue
        whole = assignment is DEFAULT_ASSIGNMENT or known is None
        table = delta_tables(
            compared if whole else {first: compared[first]},
            by=[Stratum.KIND],
            filters=replace(filters, assignment=assignment),
            quantities=HEADLINE_QUANTITIES,
            weighting=weighting,
            inference=inference,
        )
        found[assignment] = with_drift(table, drift or NOT_KNOWN, assignment=assignment)
    return {assignment: found[assignment] for assignment in Assignment}


def sentence(by_assignment: Mapping[Assignment, pd.DataFrame], *, other: str) -> str:
    """What the headline deltas allow to be said, and no more.

    A change is named only where its interval leaves out zero, the role-exchange null and the drift
    null, all on one side, by whichever model's distribution positions get their kinds; where a null
    is not known, none is. It says nothing of the mechanism.

    Args:
        by_assignment: of `headline_tables`.
        other: name of the model that is looked at.
    """
    parts = []
    for kind, quantity, _ in HEADLINES:
        rows = {
            assignment: headline_row(table, other, kind, quantity)
            for assignment, table in by_assignment.items()
        }
        name = QUANTITIES[quantity].label.split(" (")[0].lower()
        parts.append(f"{name} at {kind.value.removesuffix('-like')}s {_change(rows)}")
    text = f"Under {other}, {'; '.join(parts)}."
    # Kinds of a contrast are by the mean of all models, whatever the assignment.
    table = by_assignment[DEFAULT_ASSIGNMENT]
    _, *beside = dict.fromkeys(table[COMPARISON])
    return f"{text} {_apart(table, beside[-1])}" if beside else text


def _apart(table: pd.DataFrame, contrast: str) -> str:
    """Where the control does not do the same, in a sentence."""
    rows = {
        label.lower(): headline_row(table, contrast, kind, quantity)
        for kind, quantity, label in HEADLINES
    }
    if all(np.isnan(row["low"]) for row in rows.values()):
        return "Whether the control differs was not measured."
    apart = [label for label, row in rows.items() if _direction(row)]
    if apart:
        return f"Beyond the control: {', '.join(apart)}."
    if all(np.isnan(row[NULL_DRIFT]) for row in rows.values()):
        return "Whether any of these differs from the control by more than noise is not known."
    return "None of these differs from the control beyond its interval and its nulls."


def headline_row(table: pd.DataFrame, comparison: str, kind: Kind, quantity: str) -> pd.Series:
    """One row of the table; of NaN where there is none."""
    here = (
        (table[COMPARISON] == comparison)
        & (table["kind"] == kind.value)
        & (table["quantity"] == quantity)
    )
    if not here.any():
        return pd.Series(np.nan, index=table.columns)
    return table[here].iloc[0]


def _direction(row: pd.Series, *, nulls: Sequence[str] = ("null", NULL_DRIFT)) -> int:
    """1 or -1 where the interval leaves out zero and the nulls on that side, else 0.

    Also 0 where a null is not known.
    """
    values = [row[name] for name in nulls]
    if np.isnan(values).any():
        return 0
    return int(row["low"] > max(0.0, *values)) - int(row["high"] < min(0.0, *values))


def _change(rows: Mapping[Assignment, pd.Series]) -> str:
    """What may be said of one quantity at one kind."""
    row = rows[DEFAULT_ASSIGNMENT]
    if all(np.isnan(each["delta"]) for each in rows.values()):
        return "was not measured"
    if any(np.isnan(each["low"]) for each in rows.values()):
        return f"moved by {signed(row['delta'])} (too few problems for an interval)"
    directions = {_direction(each) for each in rows.values()}
    if directions in ({1}, {-1}):
        return f"{'rose' if directions == {1} else 'fell'} by {signed(abs(row['delta']))[1:]}"
    if directions != {0}:
        each_says = ", ".join(
            f"{assignment.value} {signed(each['delta'])}{'' if _direction(each) else ' (unclear)'}"
            for assignment, each in rows.items()
        )
        return f"moved or not, depending on whose distribution gives the kinds ({each_says})"
    return f"{_no_direction(row)} ({signed(row['low'])} to {signed(row['high'])})"


def _no_direction(row: pd.Series) -> str:
    """Why no direction is claimed of a change."""
    if row["low"] <= 0 <= row["high"]:
        return "did not measurably change"
    if not _direction(row, nulls=["null"]):
        return "moved no more than selection alone would move it"
    if np.isnan(row[NULL_DRIFT]):
        return "moved, but what noise alone would do is not known"
    return "moved no more than noise that costs as much KL would move it"
