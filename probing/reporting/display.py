"""How tables look on a page: labels, tooltips, digits. The values themselves stay as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from probing.reporting.charts import KIND_COLORS
from probing.reporting.comparison import kind_column
from probing.reporting.contrasts import COMPARISON
from probing.reporting.filters import EVERY, HEADLINE
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    baseline_column,
    delta_column,
    other_column,
)
from probing.reporting.text import visible
from probing.settings import GREEDY_BELOW, Decoding, KindRule
from probing.vocabulary import Assignment

NOT_MEASURED = "–"
COUNTS = frozenset({"nucleus_size", "nucleus_size_full", "close_tokens", "realised_rank"})
SMALLEST_FIXED = 0.00095
"""Below this, four decimals would show too little of a number: it is shown in scientific form."""


@dataclass(frozen=True)
class Column:
    """Label and tooltip of one column."""

    label: str
    explanation: str


DELTA_LABELS: dict[str, Column] = {
    "quantity": Column("Quantity", "What is averaged; see the list below the table."),
    "kind": Column("Kind", "By the chosen assignment and thresholds."),
    "baseline": Column("Baseline", "Weighted mean under the baseline."),
    "other": Column("Other", "Weighted mean under the other model, over the same positions."),
    "delta": Column("Delta", "Other − baseline. For a divergence, its mean."),
    "low": Column("95 % from", "Lower end of the interval; whole problems are resampled."),
    "high": Column("to", "Upper end of the interval."),
    "positions": Column("Positions", "Positions with a value."),
    "carriers": Column("Responses", "Responses with a value."),
    "problems": Column("Problems", "Problems with a value: what is resampled."),
    "missing": Column("Not measured", "Positions left out because the run cannot tell."),
}

EXAMPLE_LABELS: dict[str, Column] = {
    "rank": Column("Rank", "Place in each model's own list."),
    "baseline_token": Column("Baseline token", "␣ space, ↵ line break, ⇥ tab; \\x.. odd bytes."),
    "baseline_prob": Column("Probability", "At the chosen temperature, before truncation."),
    "baseline_kept_prob": Column("Truncated", "After top-k and top-p, renormalised."),
    "other_token": Column("Other token", "␣ space, ↵ line break, ⇥ tab; \\x.. odd bytes."),
    "other_prob": Column("Probability ", "At the chosen temperature, before truncation."),
    "other_kept_prob": Column("Truncated ", "After top-k and top-p, renormalised."),
    "other_baseline_rank": Column(
        "Baseline rank", "Rank of the other's token under the baseline; – = beyond the exact ranks."
    ),
    "rank_change": Column("Rank change", "Ranks the other's token moved up (+) or down (−)."),
}


def number(value: Any) -> str:
    """Four decimals; more where that would show nothing.

    Examples:
        >>> number(0.5268), number(0.00012146), number(0.0)
        ('0.5268', '1.2e-04', '0.0000')
    """
    if not np.isfinite(value):
        return NOT_MEASURED
    return f"{value:.1e}" if 0 < abs(value) < SMALLEST_FIXED else f"{value:.4f}"


def signed(value: Any) -> str:
    """As `number`, with its sign."""
    if not np.isfinite(value):
        return NOT_MEASURED
    return f"{value:+.1e}" if 0 < abs(value) < SMALLEST_FIXED else f"{value:+.4f}"


def bounded(value: float, low: float, high: float) -> str:
    """A delta with its interval.

    Examples:
        >>> bounded(-0.0123, -0.02, -0.001)
        '-0.0123 [-0.0200, -0.0010]'
    """
    bounds = f"[{signed(low)}, {signed(high)}]" if np.isfinite(low) else "[no interval]"
    return f"{signed(value)} {bounds}" if np.isfinite(value) else NOT_MEASURED


def wide_deltas(table: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """A table of several comparisons, one row per group and quantity, as text.

    Columns: those of `by`, `quantity`, `baseline` (its mean), each comparison's delta with its
    interval, each followed by its null where it has one, `positions` and `problems` of the first.

    Args:
        table: of `delta_tables`.
        by: its grouping columns.
    """
    names = list(dict.fromkeys(table[COMPARISON]))
    keys = [*by, "quantity"]
    first = table[table[COMPARISON] == names[0]].set_index(keys)
    shown = pd.DataFrame({"baseline": first["baseline"].map(number)})
    for name in names:
        own = table[table[COMPARISON] == name].set_index(keys).reindex(first.index)
        columns = (own["delta"], own["low"], own["high"])
        shown[name] = [bounded(*each) for each in zip(*columns, strict=True)]
        if own["null"].notna().any() and not (own["null"].fillna(0) == 0).all():
            shown[f"null ({name})"] = own["null"].map(signed)
    shown["positions"], shown["problems"] = first["positions"], first["problems"]
    return shown.reset_index()


def kept(value: Any) -> str:
    """A probability after truncation; what was cut has none."""
    return "cut" if value == 0 else number(value)


def whole(value: Any) -> str:
    """A count."""
    return NOT_MEASURED if pd.isna(value) or np.isinf(value) else f"{int(value):,}"


def moved(value: Any) -> str:
    """A change of a count."""
    return NOT_MEASURED if pd.isna(value) else f"{int(value):+d}" if value else "0"


def shown_deltas(table: pd.DataFrame) -> Styler:
    """A delta table by kind for a page: quantity by quantity, labelled, rounded for the eye."""
    names = list(dict.fromkeys(table["quantity"]))
    order = table["quantity"].map({name: place for place, name in enumerate(names)})
    shown = table.assign(order=order).sort_values("order", kind="stable")[list(DELTA_LABELS)]
    shown["quantity"] = shown["quantity"].map({name: QUANTITIES[name].label for name in names})
    shown = _labelled(shown, DELTA_LABELS)
    label = {name: column.label for name, column in DELTA_LABELS.items()}
    styler = shown.style.format(number, subset=[label["baseline"], label["other"]])
    styler = styler.format(signed, subset=[label["delta"], label["low"], label["high"]])
    styler = styler.format(
        whole, subset=[label[name] for name in ("positions", "carriers", "problems", "missing")]
    )
    return styler.map(_kind_style, subset=[label["kind"]])


def shown_example(table: pd.DataFrame) -> Styler:
    """An example table for a page: tokens with nothing hidden, rounded probabilities."""
    shown = table[list(EXAMPLE_LABELS)].copy()
    for name in ("baseline_token", "other_token"):
        shown[name] = [token if pd.isna(token) else visible(str(token)) for token in shown[name]]
    label = {name: column.label for name, column in EXAMPLE_LABELS.items()}
    styler = _labelled(shown, EXAMPLE_LABELS).style.format(
        number, subset=[label["baseline_prob"], label["other_prob"]]
    )
    styler = styler.format(kept, subset=[label["baseline_kept_prob"], label["other_kept_prob"]])
    styler = styler.format(whole, subset=[label["other_baseline_rank"]])
    return styler.format(moved, subset=[label["rank_change"]])


def _labelled(frame: pd.DataFrame, labels: dict[str, Column]) -> pd.DataFrame:
    named = {name: column.label for name, column in labels.items()}
    return frame.rename(columns=named).reset_index(drop=True)


def _kind_style(kind: Any) -> str:
    return f"color: {KIND_COLORS[kind]}; font-weight: 600"


def shown_facts(position: pd.Series, *, names: Sequence[str] = SHOWN_FIRST) -> pd.DataFrame:
    """Some quantities at one position under both models, as text."""
    rows = []
    for name in names:
        own = position.reindex([baseline_column(name), other_column(name)])
        form, change = (whole, moved) if name in COUNTS else (number, signed)
        rows.append(
            {
                "Quantity": QUANTITIES[name].label,
                "Baseline": form(own.iloc[0]),
                "Other": form(own.iloc[1]),
                "Delta": (form if QUANTITIES[name].of == "pair" else change)(
                    position[delta_column(name)]
                ),
            }
        )
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame) -> str:
    """The warnings of a delta table by kind in one line; empty if there are none."""
    noted = table[table["note"] != ""].drop_duplicates(["kind", "note"])
    return "; ".join(
        f"{kind}: {note}" for kind, note in zip(noted["kind"], noted["note"], strict=True)
    )


def place_text(position: pd.Series) -> str:
    """Where a position stands, who wrote it, its kinds, and why it was chosen: one line."""
    kinds = ", ".join(f"{position[kind_column(a)]} by {a}" for a in Assignment)
    return " · ".join(
        [
            f"{position['carrier_id']}",
            f"written by {position['generator']}",
            f"answer {position['correct']}",
            f"token {position['position'] + 1} of {position['response_tokens']}",
            kinds,
            f"chosen by {position['selectors'].replace(' ', ', ')}",
        ]
    )


def rule_text(rule: KindRule) -> str:
    """Thresholds of the kinds in one line."""
    return (
        f"lock-like = top-1 ≥ {rule.lock_top1:g}, nucleus ≤ {rule.lock_nucleus}, tail ≤ "
        f"{rule.lock_tail:g}; fork-like = top-1 below that, ≥ {rule.fork_close_tokens} close "
        f"tokens, tail ≤ {rule.fork_tail:g}; diffuse = tail above {rule.fork_tail:g}; mixed = the "
        "rest"
    )


class DecodingParts(NamedTuple):
    """A decoding in words."""

    temperature: str
    truncation: str


def decoding_parts(decoding: Decoding) -> DecodingParts:
    """Temperature and truncation in a few words each."""
    if decoding.temperature < GREEDY_BELOW:
        return DecodingParts("greedy", "only the likeliest token")
    top_k = f"top-k {decoding.top_k}" if decoding.top_k else "no top-k"
    top_p = f"top-p {decoding.top_p:g}" if decoding.top_p < 1 else "no top-p"
    return DecodingParts(f"T {decoding.temperature:g}", f"{top_k}, {top_p}")


def decoding_text(decoding: Decoding) -> str:
    """Temperature and truncation in one line."""
    return ", ".join(decoding_parts(decoding))


def selector_label(name: str) -> str:
    """What readers call a choice of positions."""
    named = {HEADLINE: "headline (interval, random)", EVERY: "every stored position"}
    return named.get(name, f"marker: {name.replace('_', ' ')}")
