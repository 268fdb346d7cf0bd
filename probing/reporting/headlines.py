"""The four deltas that a page opens with, and what they allow to be said."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from probing.reporting.contrasts import COMPARISON
from probing.reporting.display import signed
from probing.reporting.quantities import QUANTITIES
from probing.vocabulary import Kind


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


def headlines(table: pd.DataFrame) -> list[Headline]:
    """The headline deltas of a table of `delta_tables` by kind."""
    names = list(dict.fromkeys(table[COMPARISON]))
    found = []
    for kind, quantity, label in HEADLINES:
        row, *rest = (_row(table, name, kind, quantity) for name in names)
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


def sentence(table: pd.DataFrame, *, other: str) -> str:
    """What the headline deltas allow to be said, and no more.

    A change is named only where its interval leaves out both zero and the role-exchange null. It
    says nothing of the mechanism.

    Args:
        table: of `delta_tables` by kind.
        other: name of the model that is looked at.
    """
    parts = []
    for kind, quantity, _ in HEADLINES:
        row = _row(table, other, kind, quantity)
        name = QUANTITIES[quantity].label.split(" (")[0].lower()
        parts.append(f"{name} at {kind.value.removesuffix('-like')}s {_change(row)}")
    text = f"Under {other}, {'; '.join(parts)}."
    _, *beside = dict.fromkeys(table[COMPARISON])
    if beside:
        apart = [
            label.lower()
            for kind, quantity, label in HEADLINES
            if _established(_row(table, beside[-1], kind, quantity))
        ]
        text += (
            f" Beyond the control: {', '.join(apart)}."
            if apart
            else " None of these differs from the control beyond its interval."
        )
    return text


def _row(table: pd.DataFrame, comparison: str, kind: Kind, quantity: str) -> pd.Series:
    """One row of the table; of NaN where there is none."""
    here = (
        (table[COMPARISON] == comparison)
        & (table["kind"] == kind.value)
        & (table["quantity"] == quantity)
    )
    if not here.any():
        return pd.Series(np.nan, index=table.columns)
    return table[here].iloc[0]


def _established(row: pd.Series) -> bool:
    """Whether the interval leaves out zero and the null; not where the null is not known."""
    return bool(row["low"] > max(0.0, row["null"]) or row["high"] < min(0.0, row["null"])) and (
        not np.isnan(row["null"])
    )


def _change(row: pd.Series) -> str:
    if np.isnan(row["delta"]):
        return "was not measured"
    if np.isnan(row["low"]):
        return f"moved by {signed(row['delta'])} (too few problems for an interval)"
    if _established(row):
        return f"{'rose' if row['delta'] > 0 else 'fell'} by {signed(abs(row['delta']))[1:]}"
    bounds = f"({signed(row['low'])} to {signed(row['high'])})"
    if row["low"] > 0 or row["high"] < 0:
        return f"moved no more than selection alone would move it {bounds}"
    return f"did not measurably change {bounds}"
