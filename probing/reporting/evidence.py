"""The evidence for people: its table, a sentence per figure, what is charted."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from probing.analysis.verdict import TEMPERATURE, TOKENS
from probing.reporting.display import Column, labelled, number, percent, signed
from probing.reporting.mechanism import (
    CANNOT_TELL,
    CONTRADICTS,
    SUPPORTS,
    evidence_table,
)

__all__ = ["CHARTED", "EVIDENCE_LABELS", "MULTIVERSE_LABELS", "evidence_table"]

CHARTED = (
    "gap",
    "slope",
    "support at locks",
    "support at forks",
    "entropy within S, fork - lock",
    TEMPERATURE,
)
"""Figures that have a chart of their own, in the order of the page."""

TITLES: Mapping[str, str] = {
    "gap": "Gap at the edge of the support, nats",
    "slope": "Slope towards the target inside the support",
    "trend": "Trend, per nat of log-probability",
    "support at locks": "Support part of the progress at locks, nats",
    "support at forks": "Support part of the progress at forks, nats",
    "within at locks": "Within part at locks, nats",
    "within at forks": "Within part at forks, nats",
    "entropy within S, fork - lock": "Change of entropy within S, fork − lock, nats",
    "sign of the top-1 change": "Agreement of the top-1 change with the target's sign",
    TEMPERATURE: "Share of KL that one temperature explains",
    TOKENS: "Share of what is left that single tokens tell",
}

EVIDENCE_LABELS = {
    "comparison": Column("Comparison", "Which model, or which difference."),
    "figure": Column("Figure", "See Methods for its formula."),
    "estimate": Column("Estimate", "Over headline positions."),
    "interval": Column("95 % interval", "t(G − 1) over problems."),
    "null_exchange": Column("Null: exchange", "What selection alone gives, roles exchanged."),
    "null_drift": Column("Null: drift", "What noise gives that costs as much KL."),
    "p_adjusted": Column(
        "p", "Of lying inside either null, Holm-adjusted over the verdict's family."
    ),
    "detectable": Column("Detectable", "The smallest effect found four times in five."),
    "reads": Column("Reads", "For what self-distillation predicts, at 5 % beyond both nulls."),
    "prediction": Column("Prediction", "What simple self-distillation predicts."),
}

MULTIVERSE_LABELS = {
    "kind": Column("Kind", "By the assignment of each combination."),
    "quantity": Column("Quantity", "Mean delta, other − baseline."),
    "sign": Column("Sign", "Under the defaults."),
    "same_sign": Column("Same sign", "Share of combinations."),
    "beyond": Column("Beyond the null", "Share with that sign, beyond the null, interval off 0."),
    "range": Column("Range", "Least and largest estimate."),
    "universes": Column("Combinations", "In which it was measured."),
}


def shown_evidence(table: pd.DataFrame) -> pd.DataFrame:
    """The evidence as text, with the columns of `EVIDENCE_LABELS`."""
    shown = pd.DataFrame(
        {
            "comparison": table["comparison"],
            "figure": table["figure"].map(TITLES),
            "estimate": table["estimate"].map(signed),
            "interval": [
                "" if np.isnan(low) else f"{signed(low)} to {signed(high)}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "null_exchange": table["null_exchange"].map(signed),
            "null_drift": table["null_drift"].map(signed),
            "p_adjusted": table["p_adjusted"].map(number),
            "detectable": table["detectable"].map(number),
            "reads": table["reads"],
            "prediction": table["prediction"],
        }
    )
    return labelled(shown, EVIDENCE_LABELS)


def shown_multiverse(table: pd.DataFrame) -> pd.DataFrame:
    """The multiverse as text, with the columns of `MULTIVERSE_LABELS`."""
    shown = pd.DataFrame(
        {
            "kind": table["kind"].astype(str),
            "quantity": table["quantity"],
            "sign": table["sign"].map({1: "rises", -1: "falls", 0: "no change"}),
            "same_sign": table["same_sign"].map(percent),
            "beyond": table["beyond"].map(percent),
            "range": [
                f"{signed(low)} to {signed(high)}"
                for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "universes": table["universes"],
        }
    )
    return labelled(shown, MULTIVERSE_LABELS)


def explanation(table: pd.DataFrame, figure: str) -> str:
    """What self-distillation predicts of a figure."""
    return str(table.loc[table["figure"] == figure, "prediction"].iloc[0])


READINGS = {
    SUPPORTS: "as self-distillation predicts",
    CONTRADICTS: "against what self-distillation predicts",
    CANNOT_TELL: "cannot be told from its nulls",
    "": "",
}


def sentence(table: pd.DataFrame, figure: str) -> str:
    """One sentence on a figure, each comparison in turn."""
    parts = [
        f"{row['comparison']}: {signed(row['estimate'])}"
        + (f", {READINGS[str(row['reads'])]}" if row["reads"] else "")
        for _, row in table[table["figure"] == figure].iterrows()
    ]
    return "; ".join(parts) + "."
