"""The evidence for people: its table, a sentence per figure, what is charted."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from probing.analysis.figures import TILT
from probing.analysis.temperature import TemperatureNull
from probing.analysis.verdict import TEMPERATURE, TOKENS
from probing.reporting.display import Column, bounded, labelled, number, percent, signed
from probing.reporting.mechanism import LEVEL
from probing.reporting.predictions import (
    ALLOWS,
    CANNOT_TELL,
    CONTRADICTS,
    LESS,
    SUPPORTS,
)
from probing.reporting.progress import PARTS
from probing.reporting.quantities import QUANTITIES

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
    TILT: "Trend where the baseline is uncertain, less where it is certain",
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
        "Of lying within either null (of a difference, of the two nulls); some are held against a "
        "bound, which the notes name. Holm over the primary contrasts, Benjamini–Hochberg over the "
        "rest.",
    ),
    "detectable": Column("Detectable", "The smallest effect found four times in five."),
    "reads": Column("Reads", "For what self-distillation predicts, at 5 % and beyond both nulls."),
    "prediction": Column("Prediction", "What simple self-distillation predicts."),
}

MANY_TIMES = 2.0
"""From here on a share is told in multiples: with little way to go, per cent mislead."""

OF_FIGURE = ("primary", "figure")
OF_COMPARISON = ("estimate", "nulls", "p_adjusted", "reads", "detectable")

PROGRESS_LABELS = {
    "comparison": Column("Model", "Compared with the baseline."),
    "kind": Column("Kind", "By the mean of the two models."),
    "event": Column("Event", "What happened to the position; all: every one of the kind."),
    "share": Column("Share of the way", "Progress over Distance; below 0: away from the target."),
    "support": Column("Support part", "Mass that moved into the support, nats."),
    "support_nulls": Column("Its nulls", "Exchange, drift; at locks and forks.", width=130),
    "within": Column("Within part", "Gain on the target inside the support, nats."),
    "within_nulls": Column("Its nulls ", "Exchange, drift; at locks and forks.", width=130),
    "distance": Column("Distance", "KL(target ‖ baseline), nats."),
    "positions": Column("Positions", "Measured."),
    "problems": Column("Problems", "They come from."),
}

TEMPERATURE_LABELS = {
    "comparison": Column("Model", "Compared with the baseline."),
    "kind": Column("Kind", "By the mean of the two models."),
    "quantity": Column("Quantity", "At T 1, top-k 20, top-p 0.95."),
    "delta": Column("Delta", "Other − baseline."),
    "interval": Column("95 % interval", "t(G − 1) over problems."),
    "delta_at": Column("Delta at T*", "Other − baseline at T*."),
    "interval_at": Column("95 % interval at T*", "t(G − 1) over problems; T* is taken as known."),
}

TEXT_LABELS = {
    "figure": Column("Figure", "Formulas are in docs/method.md."),
    "comparison": Column("Comparison", "Which model, or which difference."),
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
    """The evidence as text, one row per comparison and figure, columns of `EVIDENCE_LABELS`."""
    shown = table.assign(
        figure=table["figure"].map(TITLES),
        interval=_interval(table["low"], table["high"]),
        **{name: table[name].map(signed) for name in ("estimate", "null_exchange", "null_drift")},
        **{name: table[name].map(number) for name in ("p_adjusted", "detectable")},
    )
    return labelled(shown[list(EVIDENCE_LABELS)], EVIDENCE_LABELS)


def wide_labels(table: pd.DataFrame) -> dict[str, Column]:
    """Columns of `wide_evidence`: of a figure, then of each comparison."""
    known = EVIDENCE_LABELS | {
        "estimate": Column("", "With a 95 % interval, t(G − 1) over problems."),
        "nulls": Column(
            "nulls",
            " ".join(EVIDENCE_LABELS[f"null_{each}"].explanation for each in ("exchange", "drift")),
        ),
    }
    has_nulls = set(table.loc[table["null_exchange"].notna(), "comparison"])
    of_comparisons = {
        f"{name} {key}": replace(known[key], label=f"{name} {known[key].label.lower()}".strip())
        for name in table["comparison"].unique()
        for key in OF_COMPARISON
        if key != "nulls" or name in has_nulls
    }
    last = {"prediction": known["prediction"]}
    return {name: known[name] for name in OF_FIGURE} | of_comparisons | last


def wide_evidence(table: pd.DataFrame) -> pd.DataFrame:
    """The evidence as text, one row per figure, with the columns of `wide_labels`."""
    ends = zip(table["estimate"], table["low"], table["high"], strict=True)
    texts = table.assign(
        estimate=[
            bounded(value, low, high) if np.isfinite(low) else signed(value)
            for value, low, high in ends
        ],
        nulls=_nulls(table["null_exchange"], table["null_drift"]),
        **{name: table[name].map(number) for name in ("p_adjusted", "detectable")},
    )
    labels = wide_labels(table)
    first = texts["comparison"].iloc[0]
    shown = texts.loc[texts["comparison"] == first, [*OF_FIGURE, "prediction"]]
    shown = shown.set_index("figure", drop=False)
    for name, own in texts.groupby("comparison", sort=False):
        cells = own.set_index("figure").reindex(shown.index)
        for key in OF_COMPARISON:
            shown[f"{name} {key}"] = cells[key].fillna("")
    shown["figure"] = shown["figure"].map(TITLES)
    return labelled(shown[list(labels)], labels)


def shown_progress(table: pd.DataFrame) -> pd.DataFrame:
    """Progress as text, with the columns of `PROGRESS_LABELS`."""
    shown = table.assign(
        share=table["share"].map(of_the_way), distance=table["distance"].map(number)
    )
    for part in PARTS:
        shown[part] = [
            bounded(row[part], row[f"{part}_low"], row[f"{part}_high"])
            for row in table.to_dict("records")
        ]
        shown[f"{part}_nulls"] = _nulls(table[f"{part}_exchange"], table[f"{part}_drift"])
    return labelled(shown[list(PROGRESS_LABELS)], PROGRESS_LABELS)


def of_the_way(share: float) -> str:
    """Progress as a share of the distance; many times the distance as that.

    Examples:
        >>> of_the_way(0.312), of_the_way(-6.504), of_the_way(float("nan"))
        ('31.2%', '-6.5 ×', '–')
    """
    return f"{share:.2g} ×" if abs(share) >= MANY_TIMES else percent(share)


def _nulls(exchange: pd.Series, drift: pd.Series) -> list[str]:
    """Both nulls as text, empty where there is none."""
    return [
        "" if np.isnan(first) else f"{signed(first)}, {signed(second)}"
        for first, second in zip(exchange, drift, strict=True)
    ]


def temperature_sentence(name: str, null: TemperatureNull) -> str:
    """What one temperature explains of a model's change."""
    at_end = " (an end of the range that was looked at)" if null.at_end else ""
    low, high = null.share.interval(level=LEVEL)
    return (
        f"{name}: T* = {null.temperature:.3g}{at_end} explains {null.share.value:.1%} of KL "
        f"[{low:.1%}, {high:.1%}], judged on problems it was not fitted on."
    )


def _interval(low: pd.Series, high: pd.Series) -> list[str]:
    """Intervals as text, empty where there is none."""
    return [
        "" if np.isnan(first) else f"{signed(first)} to {signed(last)}"
        for first, last in zip(low, high, strict=True)
    ]


def shown_temperature(table: pd.DataFrame) -> pd.DataFrame:
    """Deltas beside T* as text, with the columns of `TEMPERATURE_LABELS`."""
    shown = pd.DataFrame(
        {
            "comparison": table["comparison"],
            "kind": table["kind"],
            "quantity": table["quantity"].map(lambda name: QUANTITIES[name].label),
            "delta": table["delta"].map(signed),
            "interval": _interval(table["low"], table["high"]),
            "delta_at": table["delta_at"].map(signed),
            "interval_at": _interval(table["low_at"], table["high_at"]),
        }
    )
    return labelled(shown, TEMPERATURE_LABELS)


def shown_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Primary figures and the gap, one column per generator; a mark says what they read."""
    inside = (table["primary"] != "") | table["figure"].isin(CHARTED)
    marks = {SUPPORTS: " ✓", CONTRADICTS: " ✗"}
    cells = table[inside].assign(
        shown=lambda rows: rows["estimate"].map(signed) + rows["reads"].map(marks).fillna(""),
        figure=lambda rows: rows["figure"].map(TITLES),
    )
    wide = cells.pivot_table(
        index=["figure", "comparison"], columns="text", values="shown", aggfunc="first", sort=False
    )
    return labelled(wide.reset_index(), TEXT_LABELS)


def shown_multiverse(table: pd.DataFrame) -> pd.DataFrame:
    """The multiverse as text, with the columns of `MULTIVERSE_LABELS`."""
    shown = pd.DataFrame(
        {
            "kind": table["kind"].astype(str),
            "quantity": table["quantity"].map(lambda name: QUANTITIES[name].label),
            "sign": table["sign"].map({1: "rises", -1: "falls", 0: "no change"}),
            "same_sign": table["same_sign"].map(percent),
            "beyond": table["beyond"].map(percent),
            "range": _interval(table["low"], table["high"]),
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
    ALLOWS: "which self-distillation allows, and so does much else",
    LESS: "of the other sign, as any noise makes it, yet further towards the target than noise",
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
