"""How tables look on a page: labels, tooltips, digits. The values themselves stay as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from probing.reporting.charts import KIND_COLORS
from probing.reporting.comparison import kind_column
from probing.reporting.contrasts import COMPARISON
from probing.reporting.deltas import joined
from probing.reporting.examples import BESIDE
from probing.reporting.filters import EVERY, HEADLINE
from probing.reporting.happenings import event_column
from probing.reporting.marking import CHANGES, TIE, with_marks
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    baseline_column,
    delta_column,
    other_column,
)
from probing.reporting.text import line, shown_token
from probing.settings import GREEDY_BELOW, Decoding, Inference, KindRule
from probing.vocabulary import Assignment, Stratum

NOT_MEASURED = "–"
NO_INTERVAL = "no interval"
COUNTS = frozenset({"nucleus_size", "nucleus_size_full", "close_tokens", "realised_rank"})
SMALLEST_FIXED = 0.00095
"""Below this, four decimals would show too little of a number: it is shown in scientific form."""


@dataclass(frozen=True)
class Column:
    """Label (names in it hide nothing) and tooltip, and pixels where the first rows mislead."""

    label: str
    explanation: str
    width: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", line(self.label))


DELTA_LABELS: dict[str, Column] = {
    COMPARISON: Column("Comparison", "Which models: the other or the control, less the baseline."),
    "assignment": Column("By", "Whose distribution gives the kind.", width=76),
    "quantity": Column("Quantity", "What is averaged; see the tooltips of the charts."),
    "baseline": Column(
        "Baseline", "Weighted mean under the baseline (the control, if compared).", width=66
    ),
    "delta": Column(
        "Delta",
        "Other − baseline, over the same positions. For a divergence, its mean. The CSV has the "
        "other's mean too.",
    ),
    "low": Column("From", "Lower end of the 95 % interval; whole problems are resampled."),
    "high": Column("to", "Upper end of the 95 % interval."),
    "null": Column(
        "Null",
        "Half the sum of this delta and of the one with the models' roles exchanged: what "
        "selection alone would give.",
    ),
    "null_drift": Column("Null: drift", "What noise gives that costs as much KL."),
    "p_adjusted": Column(
        "p",
        "Of delta − null being 0: bootstrap, or sign-flip with few problems; adjusted over all "
        "tests of this table (Benjamini–Hochberg). – = not tested.",
        width=56,
    ),
    "reads": Column(
        "Reads",
        "changed: p ≤ 0.05. preserved: delta − null is within its margin (two one-sided tests). "
        "small change: both. cannot tell: neither. Empty: not tested.",
        width=92,
    ),
    "problems": Column(
        "Problems", "Problems with a value: what is resampled. The CSV counts responses too."
    ),
    "positions": Column("Positions", "Positions with a value."),
    "detectable": Column(
        "Detectable", "The smallest delta − null that the test finds four times in five."
    ),
    "missing": Column(
        "Missing", "Positions not measured: the run cannot tell. Shown where there are any."
    ),
}

STRATUM_LABELS: dict[str, Column] = {
    Stratum.KIND: Column("Kind", "By the chosen assignment and thresholds."),
    Stratum.EVENT: Column(
        "Event", "What happened to the position, by the chosen assignment.", width=120
    ),
    Stratum.LENGTH: Column("Response length", "Quantile bins over this run's responses."),
    Stratum.CORRECT: Column("Answer", "Whether the response was graded right."),
    Stratum.GENERATOR: Column("Written by", "The model that wrote the response."),
    Stratum.RIGHT: Column("Right model", "Which model got the problem right, by majority."),
    Stratum.SELECTOR: Column(
        "Chosen by", "A position counts under every selector that chose it: these groups overlap."
    ),
    Stratum.PHASE: Column("Phase", "Before or after the end of the thought."),
    Stratum.TOKEN_CLASS: Column("Token", "What the response's own token is made of."),
    Stratum.SUBJECT: Column("Subject", "As the response says."),
    Stratum.DIFFICULTY: Column("Difficulty", "As the response says."),
    Stratum.SOURCE: Column("Source", "As the response says."),
    Stratum.SAMPLING_TEMPERATURE: Column("Sampled at", "Temperature of the response."),
}

LIST_LABELS: dict[str, Column] = {
    "delta": Column("Delta", "Of the quantity that ranks."),
    "control_delta": Column("Control", "The control's delta at the same position."),
    "difference": Column("Difference", "The other model's delta less the control's."),
    "kind": Column("Kind", "By the mean of the two models."),
    "event": Column("Event", "By the mean of the two models."),
    "context": Column("Context", "The token stands between ⟦ ⟧.", width=400),
    "position": Column("Token", "Its place in the response, from 1; in the CSV from 0."),
    "carrier_id": Column("Response", "Its id."),
    "generator": Column("Written by", "The model that wrote the response."),
}


def example_labels(table: pd.DataFrame) -> dict[str, Column]:
    """Columns of an example table that a page shows, each model's own three together.

    Args:
        table: of `example_table`.
    """
    labels = {"rank": Column("Rank", "Place in each model's own list.")}
    # Two columns of one label would be one: each side has a space more than the side before.
    for place, side in enumerate(s for s in ("baseline", "other", "control") if f"{s}_id" in table):
        pad = " " * place
        labels |= {
            f"{side}_token": Column(
                f"{side.capitalize()} token", "␣ space, ↵ line break, ⇥ tab; \\x.. odd bytes."
            ),
            f"{side}_prob": Column(f"Probability{pad}", f"At T, before truncation; {TIE}."),
            f"{side}_kept_prob": Column(
                f"Truncated{pad}", f"After it, renormalised; {CHANGES}.", width=84
            ),
        }
    return labels | {
        "other_baseline_rank": Column(
            "Baseline rank",
            "Rank of the other's token under the baseline; – = beyond the exact ranks.",
        ),
        "rank_change": Column("Moved", "Ranks the other's token moved up (+) or down (−)."),
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


def p_value(value: Any) -> str:
    """Three decimals; a smaller p-value is told to be smaller.

    Examples:
        >>> p_value(0.0412), p_value(0.0002), p_value(float("nan"))
        ('0.041', '<0.001', '–')
    """
    if not np.isfinite(value):
        return NOT_MEASURED
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def bounded(value: float, low: float, high: float) -> str:
    """A delta with its interval.

    Examples:
        >>> bounded(-0.0123, -0.02, -0.001)
        '-0.0123 [-0.0200, -0.0010]'
    """
    bounds = f"[{signed(low)}, {signed(high)}]" if np.isfinite(low) else f"[{NO_INTERVAL}]"
    return f"{signed(value)} {bounds}" if np.isfinite(value) else NOT_MEASURED


def printed_deltas(table: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """A table of several comparisons for a terminal: those of one group and quantity together.

    Columns: those of `by`; `quantity`, `comparison`, `baseline` (of the contrast: the control's),
    `delta`, `low`, `high`, `null`, `null_drift` where the table has it, `p_adjusted`, the
    `problems` of the row itself, since each comparison has its own where kinds are not by the
    baseline alone, and `reads`.

    Args:
        table: of `delta_tables`.
        by: its grouping columns.
    """
    keys = [*by, "quantity"]
    # Groups stand in the order in which they first occur, as the table has them.
    order = table.groupby(keys, sort=False).ngroup().to_numpy()
    shown = table.iloc[np.argsort(order, kind="stable")]
    figures = [name for name in DELTA_FORMATS if name in shown]
    return shown[[*keys, COMPARISON, *figures, "problems", "reads"]]


DELTA_FORMATS: dict[str, Callable[[Any], str]] = {
    "baseline": number,
    "delta": signed,
    "low": signed,
    "high": signed,
    "null": signed,
    "null_drift": signed,
    "p_adjusted": p_value,
}
"""How a terminal shows the figures of a delta table."""


def interval_shown(text: str) -> str:
    """An interval, in words where it has no ends.

    Examples:
        >>> interval_shown("+0.0100 to +0.0300"), interval_shown("– to –")
        ('+0.0100 to +0.0300', 'no interval')
    """
    return NO_INTERVAL if NOT_MEASURED in text else text


def kept(value: Any) -> str:
    """A probability after truncation; what was cut has none."""
    return "cut" if value == 0 else number(value)


def whole(value: Any) -> str:
    """A count."""
    return NOT_MEASURED if pd.isna(value) or np.isinf(value) else f"{int(value):,}"


def moved(value: Any) -> str:
    """A change of a count."""
    return NOT_MEASURED if pd.isna(value) else f"{int(value):+d}" if value else "0"


def stratum_label(name: str) -> str:
    """What readers call a stratum."""
    return STRATUM_LABELS[name].label


def delta_labels(by: Sequence[str]) -> dict[str, Column]:
    """Columns of a delta table that a page shows, in order."""
    known = DELTA_LABELS | {name: STRATUM_LABELS[name] for name in by if name in STRATUM_LABELS}
    rest = [name for name in DELTA_LABELS if name not in {COMPARISON, "assignment", "quantity"}]
    return {name: known[name] for name in (*by, "quantity", COMPARISON, *rest)}


def labelled_deltas(table: pd.DataFrame, *, by: Sequence[str]) -> pd.DataFrame:
    """A delta table for a page: quantity by quantity, labelled, with all its digits.

    Args:
        table: of `delta_tables` or `assignment_tables`.
        by: its grouping columns.
    """
    labels = delta_labels(by)
    for name in (COMPARISON, "null_drift"):
        if name not in table:
            del labels[name]
    if not table["missing"].any():
        del labels["missing"]
    names = list(dict.fromkeys(table["quantity"]))
    groups = list(dict.fromkeys(table[list(by)].itertuples(index=False))) if by else [()]
    order = table["quantity"].map({name: place for place, name in enumerate(names)})
    place = {tuple(group): i for i, group in enumerate(groups)}
    inner = [place[tuple(row)] for row in table[list(by)].itertuples(index=False)] if by else 0
    shown = table.assign(order=order, inner=inner).sort_values(["order", "inner"], kind="stable")
    shown = shown[list(labels)]
    shown["quantity"] = shown["quantity"].map({name: QUANTITIES[name].label for name in names})
    return labelled(shown, labels)


def shown_deltas(labelled: pd.DataFrame, *, by: Sequence[str]) -> Styler:
    """A table of `labelled_deltas`, rounded for the eye."""
    labels = delta_labels(by)
    label = {n: column.label for n, column in labels.items() if column.label in labelled}
    styler = labelled.style.format(number, subset=[label["baseline"], label["detectable"]])
    figures = [name for name in ("delta", "low", "high", "null", "null_drift") if name in label]
    styler = styler.format(signed, subset=pd.Index([label[name] for name in figures]))
    styler = styler.format(p_value, subset=[label["p_adjusted"]])
    counts = [label[name] for name in ("positions", "problems", "missing") if name in label]
    styler = styler.format(whole, subset=pd.Index(counts))
    return styler.map(kind_style, subset=[label["kind"]]) if "kind" in by else styler


def percent(value: Any) -> str:
    """A share."""
    return NOT_MEASURED if pd.isna(value) else f"{value:.1%}"


def signed_percent(value: Any) -> str:
    """A difference of shares."""
    return NOT_MEASURED if pd.isna(value) else f"{value:+.1%}"


def shown_example(table: pd.DataFrame) -> Styler:
    """An example table for a page: tokens with nothing hidden, rounded probabilities."""
    labels = example_labels(table)
    shown = table[list(labels)].copy()
    for name in (name for name in labels if name.endswith("_token")):
        shown[name] = [
            token if pd.isna(token) else shown_token(str(token)) for token in shown[name]
        ]
    named = {name: column.label for name, column in labels.items()}
    forms = {"prob": number, "kept_prob": kept}
    styler = with_marks(labelled(shown, labels).style, table, labels=named, forms=forms)
    styler = styler.format(whole, subset=[labels["other_baseline_rank"].label])
    return styler.format(moved, subset=[labels["rank_change"].label])


def shown_list(table: pd.DataFrame, *, first: int) -> Styler:
    """A list of positions for a page, numbered.

    Args:
        table: of `position_list`.
        first: number of its first row.
    """
    labels = {name: column for name, column in LIST_LABELS.items() if name in table}
    shown = labelled(table[list(labels)].assign(position=table["position"] + 1), labels)
    shown.insert(0, "#", range(first, first + len(shown)))
    deltas = [labels[name].label for name in ("delta", *BESIDE) if name in labels]
    styler = shown.style.format(signed, subset=pd.Index(deltas)).format(whole, subset=["Token"])
    return styler.map(kind_style, subset=["Kind"])


def labelled(frame: pd.DataFrame, labels: dict[str, Column]) -> pd.DataFrame:
    """A table under its columns' labels, numbered from 0; nothing in its texts is hidden."""
    named = {name: labels[name].label if name in labels else line(str(name)) for name in frame}
    return lined(frame).rename(columns=named).reset_index(drop=True)


def lined(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with every text on one line and nothing in it hidden."""
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    return frame.assign(**{str(name): frame[name].astype("object").map(_lined) for name in texts})


def _lined(cell: Any) -> Any:
    return line(cell) if isinstance(cell, str) else cell


def kind_style(kind: Any) -> str:
    """The style of a cell that names a kind."""
    return f"color: {KIND_COLORS[kind]}; font-weight: 600" if kind in KIND_COLORS else ""


def shown_facts(
    position: pd.Series,
    *,
    names: Sequence[str] = SHOWN_FIRST,
    beside: pd.Series | None = None,
) -> pd.DataFrame:
    """Some quantities at one position under the models, as text.

    Args:
        position: of a comparison with the other model.
        names: which quantities.
        beside: the same position of the comparison with the control, if there is one.
    """
    rows = []
    for name in names:
        form = quantity_form(name, change=False)
        shown = quantity_form(name, change=QUANTITIES[name].of == "model")
        own = position.reindex([baseline_column(name), other_column(name)])
        row = {
            "Quantity": QUANTITIES[name].label,
            "Baseline": form(own.iloc[0]),
            "Other": form(own.iloc[1]),
            "Delta": shown(position[delta_column(name)]),
        }
        if beside is not None:
            column = name if QUANTITIES[name].of == "pair" else other_column(name)
            row["Control"] = form(beside[column])
        rows.append(row)
    return pd.DataFrame(rows)


def quantity_form(name: str, *, change: bool) -> Callable[[Any], str]:
    """How a value of a quantity, or a change of it, is written."""
    if name in COUNTS:
        return moved if change else whole
    return signed if change else number


def event_text(position: pd.Series) -> str:
    """What happened at a position, by the mean of the two models, and what to beware of."""
    kind, event = (
        position[column] for column in (kind_column(Assignment.MEAN), event_column(Assignment.MEAN))
    )
    shared = " (the two leading tokens begin alike)" if position["shared_prefix"] else ""
    return f"{event.capitalize()}, {kind}{shared}"


def notes(table: pd.DataFrame, *, by: Sequence[str]) -> str:
    """The warnings of a delta table in one line, each with its groups; empty if there are none.

    Args:
        table: of `delta_tables` or `assignment_tables`.
        by: its grouping columns.
    """
    columns = [name for name in (COMPARISON, *by) if name in table]
    noted = table[table["note"] != ""].drop_duplicates([*columns, "note"])
    named = joined(noted, columns).groupby(noted["note"], sort=False).agg(", ".join)
    return "; ".join(f"{names}: {note}" if names else str(note) for note, names in named.items())


def family_notes(table: pd.DataFrame, *, inference: Inference) -> list[str]:
    """How many tests a delta table holds and what its readings mean; none if nothing is tested.

    Args:
        table: of `delta_tables` or `assignment_tables`.
        inference: that it was made with.
    """
    size = table["family"].max()
    if pd.isna(size):
        return []
    margins = inference.margins
    return [
        f"p is adjusted over the {int(size)} tests of this table (Benjamini–Hochberg); changed: "
        f"p ≤ {1 - inference.level:.2g}",
        f"preserved: delta − null is within ±{margins.top1_prob:g} (top-1), "
        f"±{margins.entropy_kept_nats:g} nats (entropy kept), ±{margins.nucleus_size_share:.0%} "
        "(nucleus size)",
    ]


def place_text(position: pd.Series, *, blind: bool = False) -> str:
    """Where a position stands, who wrote it, its kinds unless blind, why it was chosen."""
    kinds = ", ".join(f"{position[kind_column(a)]} by {a}" for a in Assignment)
    return " · ".join(
        [
            f"{position['carrier_id']}",
            f"written by {position['generator']}",
            f"answer {position['correct']}",
            f"token {position['position'] + 1} of {position['response_tokens']}",
            *([] if blind else [kinds]),
            f"chosen by {position['selectors'].replace(' ', ', ')}",
        ]
    )


def rule_text(rule: KindRule) -> str:
    """Thresholds of the kinds in one line."""
    fork = (
        f"top-1 below that, ≥ {rule.fork_close_tokens} close tokens, tail ≤ {rule.fork_tail:g}"
        if rule.fork_entropy_share == 0
        else f"of the rest, the {rule.fork_entropy_share:.0%} of the run with most entropy under "
        "the baseline" + ("" if rule.fork_entropy is None else f" (≥ {rule.fork_entropy:.3g} nats)")
    )
    return (
        f"lock-like = top-1 ≥ {rule.lock_top1:g}, nucleus ≤ {rule.lock_nucleus}, tail ≤ "
        f"{rule.lock_tail:g}; fork-like = {fork}; diffuse = tail above {rule.fork_tail:g}; mixed = "
        "the rest"
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
    parts = [top_k, top_p]
    parts += [f"min-p {decoding.min_p:g}"] if decoding.min_p else []
    parts += [] if decoding.order == "sequential" else [f"order {decoding.order}"]
    return DecodingParts(f"T {decoding.temperature:g}", ", ".join(parts))


def decoding_text(decoding: Decoding) -> str:
    """Temperature and truncation in one line."""
    return ", ".join(decoding_parts(decoding))


def selector_label(name: str) -> str:
    """What readers call a choice of positions."""
    named = {HEADLINE: "headline (interval, random)", EVERY: "every stored position"}
    return named.get(name, f"marker: {name.replace('_', ' ')}")
