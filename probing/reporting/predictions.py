"""The evidence as a table: every figure beside what self-distillation predicts of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probing.analysis.estimates import Estimate
from probing.analysis.testing import benjamini_hochberg, holm
from probing.analysis.verdict import (
    PRIMARY,
    TEMPERATURE,
    TOKENS,
    Mechanism,
    adjusted_p_values,
    p_values,
)
from probing.reporting.contrasts import contrast_name
from probing.reporting.mechanism import LEVEL, Asked, Found
from probing.settings import Inference, Margins

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports", "contradicts", "cannot tell"

DIFFERENCE = "P5"
FEW = Inference().few_clusters

SURVIVAL = "entropy within S at forks"
"""Read against a margin, not against 0."""


@dataclass(frozen=True)
class Prediction:
    """One figure of the evidence, as it is read.

    Attributes:
        name: of the figure.
        says: what simple self-distillation predicts of it.
        sign: which sign that is; 0 where none is predicted.
    """

    name: str
    says: str
    sign: int


PREDICTIONS = (
    Prediction("slope", "inside the support tokens move as the target says: towards 1", 1),
    Prediction("trend", "per nat of log-probability; a temperature T gives 1/T - 1 and no gap", 0),
    Prediction("gap", "tokens outside the support lose more than the trend says: below 0", -1),
    Prediction("support at locks", "mass moves into the support: above 0", 1),
    Prediction("support at forks", "mass moves into the support: above 0", 1),
    Prediction("support, fork - lock", "which of the two loses more of its tail", 0),
    Prediction("within at locks", "nats gained on the target inside the support: above 0", 1),
    Prediction("within at forks", "nats gained on the target inside the support: above 0", 1),
    Prediction("entropy within S at locks", "locks sharpen: below 0", -1),
    Prediction(SURVIVAL, "forks survive: not below 0 by more than the margin", 1),
    Prediction("entropy within S, fork - lock", "locks sharpen, forks stay open: above 0", 1),
    Prediction("top-1, fork - lock", "top-1 rises at locks more than at forks: below 0", -1),
    Prediction("sign of the top-1 change", "top-1 moves where the target says: towards 1", 1),
)

EVIDENCE_COLUMNS = (
    "comparison",
    "figure",
    "primary",
    "estimate",
    "low",
    "high",
    "null_exchange",
    "null_drift",
    "p_value",
    "p_adjusted",
    "family",
    "p_verdict",
    "detectable",
    "reads",
    "prediction",
    "positions",
    "problems",
)
"""Columns of `evidence_table`."""


def evidence_table(found: Mapping[str, Found], *, asked: Asked) -> pd.DataFrame:
    """One row per comparison and figure; the difference of two models is the last comparison.

    `primary` names the contrast (P1 to P5). `p_adjusted` is by Holm over the primary contrasts of
    the model looked at (P5 among them) or of the control, by Benjamini and Hochberg over all other
    rows; `family` says how many. `p_verdict` is by Holm over what the verdict reads. `reads` is
    by `p_adjusted` at `asked.rules.display`; `detectable` the smallest effect found four times in
    five.

    Args:
        found: by the other model's name, the one looked at first, a control second.
        asked: as of `mechanism`.
    """
    rows = [row for name, one in found.items() for row in _rows(name, one, asked)]
    names = list(found)
    if len(names) > 1:
        first, second = names[:2]
        rows += _difference_rows(contrast_name(first, second), found[first], found[second])
    table = _adjusted(pd.DataFrame(rows), control=names[1] if len(names) > 1 else None)
    told = table["told"].fillna(table["p_adjusted"] <= asked.rules.display).astype(bool)
    table["reads"] = np.where(told, np.where(table["side"] > 0, SUPPORTS, CONTRADICTS), CANNOT_TELL)
    table.loc[~table["predicted"], "reads"] = ""
    return table[list(EVIDENCE_COLUMNS)]


def _adjusted(table: pd.DataFrame, *, control: str | None) -> pd.DataFrame:
    """With `p_adjusted` and `family`; a row without a p-value belongs to none."""
    p_values = table["p_value"].to_numpy(dtype=np.float64)
    adjusted, family = np.full(len(table), np.nan), np.zeros(len(table), dtype=np.int64)
    primary = (table["primary"] != "").to_numpy()
    of_control = (table["comparison"] == control).to_numpy()
    for inside, adjust in (
        (primary & ~of_control, holm),
        (primary & of_control, holm),
        (~primary, benjamini_hochberg),
    ):
        adjusted[inside] = adjust(p_values[inside])
        family[inside] = np.isfinite(p_values[inside]).sum()
    return table.assign(p_adjusted=adjusted, family=np.where(np.isfinite(p_values), family, 0))


def _rows(name: str, found: Found, asked: Asked) -> list[dict[str, object]]:
    return [
        *(_figure_row(name, each, found, asked) for each in PREDICTIONS),
        _temperature_row(name, found, asked),
        _token_row(name, found),
    ]


def _figure_row(name: str, prediction: Prediction, found: Found, asked: Asked) -> dict[str, object]:
    tested = found.evidence.figures[prediction.name]
    row = {
        **_row(name, prediction, tested.own),
        "primary": PRIMARY.get(prediction.name, ""),
        "null_exchange": tested.exchange.value,
        "null_drift": tested.drift.value,
        "p_value": tested.p_value,
        "p_verdict": adjusted_p_values(found.evidence).get(prediction.name, np.nan),
        "side": prediction.sign * np.sign(tested.beyond[0].value),
    }
    if prediction.name == SURVIVAL:
        # One-sided tests against the margin: a null of no change says nothing about survival.
        low, high = tested.own.interval(level=1 - 2 * asked.rules.display)
        margin = Margins().entropy_kept_nats
        row |= {"told": low > -margin or high < -margin, "side": 1 if low > -margin else -1}
    return row


def _row(comparison: str, prediction: Prediction, own: Estimate) -> dict[str, object]:
    """What every estimate has; `told` is None where `p_adjusted` tells, `side` 1 as predicted."""
    low, high = own.interval(level=LEVEL)
    return {
        "comparison": comparison,
        "figure": prediction.name,
        "prediction": prediction.says,
        "predicted": prediction.sign != 0,
        "told": None,
        "estimate": own.value,
        "low": low,
        "high": high,
        "detectable": own.detectable(level=LEVEL),
        "positions": own.positions,
        "problems": own.clusters,
    }


def _temperature_row(name: str, found: Found, asked: Asked) -> dict[str, object]:
    null, wanted = found.evidence.temperature, asked.rules.temperature_share
    says = (
        f"KL that T* = {null.temperature:.3g} explains, out of fold: below {wanted:g}, "
        "which is what a temperature alone gives"
    )
    low, high = null.share.interval(level=LEVEL)
    changed = found.verdict.mechanism is not Mechanism.NONE
    return {
        **_row(name, Prediction(TEMPERATURE, says, -1), null.share),
        "primary": PRIMARY[TEMPERATURE],
        "p_value": p_values(found.evidence)[TEMPERATURE],
        "p_verdict": adjusted_p_values(found.evidence)[TEMPERATURE],
        "told": changed and (high < wanted or low >= wanted),
        "side": 1 if high < wanted else -1,
    }


def _token_row(name: str, found: Found) -> dict[str, object]:
    tokens = found.evidence.tokens
    return {
        "comparison": name,
        "figure": TOKENS,
        "primary": "",
        "prediction": (
            "variance that a token's own shift tells beyond probability and edge "
            f"(standard deviation {tokens.shift:.3g} nats)"
        ),
        "predicted": False,
        "estimate": tokens.share,
        "p_value": tokens.p_value,
        "p_verdict": adjusted_p_values(found.evidence)[TOKENS],
    }


def _difference_rows(name: str, first: Found, second: Found) -> list[dict[str, object]]:
    """Other less control, figure by figure; the same problems on both sides."""
    rows = []
    for each in PREDICTIONS:
        own = first.evidence.figures[each.name].own - second.evidence.figures[each.name].own
        label = PRIMARY.get(each.name, "")
        rows.append(
            {
                **_row(name, each, own),
                "predicted": each.sign != 0 and each.name != SURVIVAL,
                "primary": DIFFERENCE if label else "",
                "p_value": own.p_value(),
                "side": each.sign * np.sign(own.value),
            }
        )
    return rows


def evidence_notes(table: pd.DataFrame, *, found: Mapping[str, Found], asked: Asked) -> list[str]:
    """What a reader of the evidence must know."""
    primary, others = (
        int(table.loc[inside, "family"].max()) if inside.any() else 0
        for inside in (table["primary"] != "", table["primary"] == "")
    )
    training, rules = asked.training, asked.rules
    notes = [
        f"training samples: T {training.temperature:g}, top-k {training.top_k}, "
        f"top-p {training.top_p:g}",
        f"p_adjusted: Holm over {primary} primary contrasts (P1 to P5), Benjamini-Hochberg over "
        f"{others} other rows; reads at {rules.display:g}, beyond both nulls",
        f"the verdict reads seven figures, Holm at {rules.level:g}: p_verdict in the CSV",
    ]
    for name, one in found.items():
        notes.append(
            f"{name}: the slope tells {one.evidence.r_squared:.1%} of the change inside the "
            f"support (R²); the drift null's noise is {one.evidence.noise:.3g} logits"
        )
    left_out = {one.left_out for one in found.values()} - {0}
    if left_out:
        notes.append(f"a random part of the positions: {max(left_out):,} were left out")
    few = min(
        max(tested.own.clusters for tested in one.evidence.figures.values())
        for one in found.values()
    )
    if few < FEW:
        notes.append(f"{few} problems, fewer than {FEW}: a wide guess")
    return notes
