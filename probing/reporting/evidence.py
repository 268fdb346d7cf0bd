"""The evidence for people: its table, a sentence per figure, what is charted."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from probing.analysis.verdict import TEMPERATURE, TOKENS
from probing.reporting.display import Column, labelled, number, percent, signed
from probing.reporting.predictions import (
    CANNOT_TELL,
    CONTRADICTS,
    SUPPORTS,
)

CHARTED = (
    "gap",
    "slope",
    "support at locks",
    "support at forks",
    "entropy within S, fork - lock",
    "sign of the top-1 change",
)
"""Figures that have a chart of their own, in the order of the page."""

TITLES: Mapping[str, str] = {
    "gap": "Gap at the edge of the support, nats",
    "slope": "Slope towards the target inside the support",
    "trend": "Trend, per nat of log-probability",
    "support at locks": "Mass into the support at locks, nats",
    "support at forks": "Mass into the support at forks, nats",
    "support, fork - lock": "Mass into the support, fork − lock, nats",
    "within at locks": "Gain inside the support at locks, nats",
    "within at forks": "Gain inside the support at forks, nats",
    "entropy within S at locks": "Entropy within S at locks, nats",
    "entropy within S at forks": "Entropy within S at forks, nats",
    "entropy within S, fork - lock": "Entropy within S, fork − lock, nats",
    "top-1, fork - lock": "Top-1 probability, fork − lock",
    "sign of the top-1 change": "Agreement of the top-1 change with the target's sign",
    TEMPERATURE: "Share of KL that one temperature explains",
    TOKENS: "Share of what is left that single tokens tell",
}

EVIDENCE_LABELS = {
    "comparison": Column("Comparison", "Which model, or which difference."),
    "primary": Column("Primary", "P1 to P5: the contrasts that were named beforehand."),
    "figure": Column("Figure", "Formulas are in docs/method.md."),
    "estimate": Column("Estimate", "Over headline positions."),
    "interval": Column("95 % interval", "t(G − 1) over problems."),
    "null_exchange": Column("Null: exchange", "What selection alone gives, roles exchanged."),
    "null_drift": Column("Null: drift", "What noise gives that costs as much KL."),
    "p_adjusted": Column(
        "p",
        "Of lying inside either null. Holm over the primary contrasts, Benjamini–Hochberg over the "
        "rest.",
    ),
    "detectable": Column("Detectable", "The smallest effect found four times in five."),
    "reads": Column("Reads", "For what self-distillation predicts, at 5 % and beyond both nulls."),
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
            "primary": table["primary"],
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
            "sign": table["sign"].map({1: "rises", -1: "falls", 0: "not measured"}),
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
