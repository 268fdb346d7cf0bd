"""The evidence as a table: every figure beside what self-distillation predicts of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probing.analysis.estimates import Estimate
from probing.analysis.figures import TILT
from probing.analysis.mechanism import Tested
from probing.analysis.testing import benjamini_hochberg, holm
from probing.analysis.verdict import (
    FAMILY,
    PRIMARY,
    TEMPERATURE,
    TOKENS,
    Mechanism,
    adjusted_p_values,
)
from probing.reporting.contrasts import contrast_name
from probing.reporting.mechanism import LEVEL, Asked, Findings, Found
from probing.settings import Inference, Margins

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports", "contradicts", "cannot tell"
ALLOWS = "allows"
"""Of what self-distillation needs, but much else gives too: that forks survive, that no temperature
tells it all."""
LESS = "less than nulls"
"""Beyond both nulls on the side that is predicted, though the figure has the other sign."""

DIFFERENCE = "P5"
FEW = Inference().few_clusters

NO_TRUNCATION = (
    "without truncation the target of self-distillation is a temperature: the two cannot be told "
    "apart"
)

SURVIVAL = "entropy within S at forks"
"""Read against a margin, not against its nulls."""

MARGIN = Margins().entropy_kept_nats


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
    Prediction(TILT, "0 where one temperature acts alike everywhere", 0),
    Prediction(
        "gap", "tokens outside the support lose more than equally likely ones inside: below 0", -1
    ),
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
    "effective",
)
"""Columns of `evidence_table`."""


def evidence_table(found: Findings, *, asked: Asked) -> pd.DataFrame:
    """One row per comparison and figure; the difference of two models is the last comparison.

    `primary` names the contrast (P1 to P5). `p_adjusted` is by Holm over the primary contrasts of
    the model looked at (P5 among them) or of the control, by Benjamini and Hochberg over all other
    rows; `family` says how many. `p_verdict` is by Holm over what the verdict reads. `reads` is
    by `p_adjusted` at `asked.rules.display`; `detectable` the smallest effect found four times in
    five by its own interval. `effective` is the number of problems that gives the degrees of
    freedom: as many alike would know the figure as well.

    Args:
        found: of `mechanism`.
        asked: as of `mechanism`.
    """
    rows = [row for name, one in found.models.items() for row in _rows(name, one, asked)]
    names = list(found.models)
    if found.difference:
        rows += _difference_rows(contrast_name(*names[:2]), found.difference)
    table = _adjusted(pd.DataFrame(rows), control=names[1] if len(names) > 1 else None)
    told = table["p_adjusted"] <= asked.rules.display
    table["reads"] = table["told"].where(told, CANNOT_TELL)
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
    row = {
        **_tested_row(name, prediction, found.evidence.figures[prediction.name]),
        "primary": PRIMARY.get(prediction.name, ""),
        "p_verdict": adjusted_p_values(found.evidence).get(prediction.name, np.nan),
    }
    if prediction.name == SURVIVAL:
        row |= _against(found.evidence.figures[SURVIVAL].own, -MARGIN, above=1)
    return row


def _tested_row(comparison: str, prediction: Prediction, tested: Tested) -> dict[str, object]:
    """A figure beside its nulls; `told` is what it reads as where its p-value is small."""
    side = prediction.sign * tested.side
    told = SUPPORTS if side > 0 else CONTRADICTS
    if side > 0 and prediction.sign * tested.own.value < 0:
        told = LESS
    return {
        **_row(comparison, prediction, tested.own),
        "null_exchange": tested.exchange.value,
        "null_drift": tested.drift.value,
        "p_value": tested.p_value,
        "told": told,
    }


def _against(own: Estimate, bound: float, *, above: int) -> dict[str, object]:
    """Read against a bound, one-sided: a null of no change says nothing about these.

    Args:
        own: the figure.
        bound: what it is held against.
        above: 1 where lying above is what self-distillation needs, -1 where below.
    """
    right_side = above * (own.value - bound) > 0
    return {"p_value": own.one_sided(bound), "told": ALLOWS if right_side else CONTRADICTS}


def _row(comparison: str, prediction: Prediction, own: Estimate) -> dict[str, object]:
    """What every estimate has."""
    low, high = own.interval(level=LEVEL)
    return {
        "comparison": comparison,
        "figure": prediction.name,
        "prediction": prediction.says,
        "predicted": prediction.sign != 0,
        "estimate": own.value,
        "low": low,
        "high": high,
        "detectable": own.detectable(level=LEVEL),
        "positions": own.positions,
        "problems": own.clusters,
        "effective": own.effective,
    }


def _temperature_row(name: str, found: Found, asked: Asked) -> dict[str, object]:
    null, wanted = found.evidence.temperature, asked.rules.temperature_share
    says = (
        f"KL that T* = {null.temperature:.3g} explains, out of fold: below {wanted:g}, "
        "which is what a temperature alone gives"
    )
    row = {
        **_row(name, Prediction(TEMPERATURE, says, -1), null.share),
        **_against(null.share, wanted, above=-1),
        "primary": PRIMARY[TEMPERATURE],
        "p_verdict": adjusted_p_values(found.evidence)[TEMPERATURE],
    }
    if found.verdict.mechanism is Mechanism.NONE:
        row["told"] = CANNOT_TELL
    return row


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


def _difference_rows(name: str, difference: Mapping[str, Tested]) -> list[dict[str, object]]:
    """Other less control, figure by figure, beside the differences of their nulls."""
    return [
        {
            **_tested_row(name, each, difference[each.name]),
            "predicted": each.sign != 0 and each.name != SURVIVAL,
            "primary": DIFFERENCE if each.name in PRIMARY else "",
        }
        for each in PREDICTIONS
    ]


def evidence_notes(table: pd.DataFrame, *, found: Findings, asked: Asked) -> list[str]:
    """What a reader of the evidence must know."""
    primary, others = (
        int(table.loc[inside, "family"].max()) if inside.any() else 0
        for inside in (table["primary"] != "", table["primary"] == "")
    )
    training, rules = asked.training, asked.rules
    families = f"Holm over {primary} primary contrasts"
    if found.difference:
        families += " (P1 to P5) and over those of the control by themselves"
    notes = [
        f"training samples: {training.said}; slope, gap, support and verdict are about this target",
        f"p_adjusted: {families}, Benjamini-Hochberg over {others} other rows; reads at "
        f"{rules.display:g}, beyond both nulls",
        f"p is of lying within either null; of {SURVIVAL} against {-MARGIN:g} nats, of "
        f"{TEMPERATURE} against {rules.temperature_share:g}",
        f"the verdict reads {len(FAMILY)} figures, Holm at {rules.level:g}: p_verdict in the CSV",
    ]
    if not training.truncates:
        notes.append(NO_TRUNCATION)
    for name, one in found.models.items():
        told = one.evidence.r_squared
        slope = (
            f"the slope tells {told:.1%} of the change inside the support (R²); "
            if np.isfinite(told)
            else ""
        )
        notes.append(f"{name}: {slope}the drift null's noise is {one.evidence.noise:.3g} logits")
    left_out = {one.left_out for one in found.models.values()} - {0}
    if left_out:
        notes.append(f"a random part of the positions: {max(left_out):,} were left out")
    undefined = table[table["estimate"].isna()].groupby("comparison", sort=False)["figure"]
    notes += [f"{name}: not defined here: {', '.join(figures)}" for name, figures in undefined]
    few = table[(table["effective"] < FEW) & table["estimate"].notna()]
    notes += [
        f"{name}: effectively fewer than {FEW} problems carry {'; '.join(_numbered(rows))}: a wide "
        "guess"
        for name, rows in few.groupby("comparison", sort=False)
    ]
    return notes


def _numbered(rows: pd.DataFrame) -> list[str]:
    """Figures with the number of problems that carry them, those of one number together."""
    return [
        f"{', '.join(together['figure'])} ({number:.0f})"
        for number, together in rows.groupby(rows["effective"].round())
    ]
