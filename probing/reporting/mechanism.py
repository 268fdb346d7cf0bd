"""What a run says about the mechanism: the evidence as a table, and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from probing.analysis.estimates import Estimate
from probing.analysis.mechanism import Evidence, Reading, Tested, evidence
from probing.analysis.pair import PairRows, Weighted
from probing.analysis.verdict import (
    TEMPERATURE,
    TOKENS,
    Rules,
    Verdict,
    adjusted_p_values,
    verdict,
)
from probing.reporting.comparison import (
    KIND_DECODING,
    mean_measure,
    named_temperature,
    other_index,
    pair_columns,
    settled_rule,
)
from probing.reporting.contrasts import contrast_name
from probing.reporting.filters import Weighting, weights
from probing.reporting.places import place_table
from probing.settings import KindRule, Training
from probing.store.reader import Run
from probing.vocabulary import PerPosition

LEVEL = 0.95

SUPPORTS, CONTRADICTS, CANNOT_TELL = "supports", "contradicts", "cannot tell"


@dataclass(frozen=True)
class Prediction:
    """One figure of the evidence, as it is read.

    Attributes:
        name: of the figure.
        says: what simple self-distillation predicts of it.
        sign: which sign that is; 0 where none is predicted.
        digits: worth showing.
    """

    name: str
    says: str
    sign: int
    digits: int = 3


PREDICTIONS = (
    Prediction("slope", "inside the support tokens move as the target says: towards 1", 1),
    Prediction("trend", "per nat of log-probability; a temperature T gives 1/T - 1 and no gap", 0),
    Prediction("gap", "tokens outside the support lose more than the trend says: below 0", -1),
    Prediction("support at locks", "mass moves into the support: above 0", 1, 4),
    Prediction("support at forks", "mass moves into the support: above 0", 1, 4),
    Prediction("within at locks", "nats gained on the target inside the support: above 0", 1, 4),
    Prediction("within at forks", "nats gained on the target inside the support: above 0", 1, 4),
    Prediction("entropy within S, fork - lock", "locks sharpen, forks stay open: above 0", 1),
    Prediction("sign of the top-1 change", "top-1 moves where the target says: towards 1", 1, 2),
)


@dataclass(frozen=True)
class Found:
    """Of one other model: the evidence and what it comes to."""

    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True)
class Asked:
    """What the mechanism is asked under.

    Attributes:
        training: T_train, k and p of the samples that were trained on.
        rule: thresholds of the kinds.
        weighting: which positions carry the figures.
        rules: of the verdict.
        seed: of noise, folds and signs.
    """

    training: Training
    rule: KindRule = field(default_factory=KindRule)
    weighting: Weighting = field(default_factory=Weighting)
    rules: Rules = field(default_factory=Rules)
    seed: int = 0


def pair_rows(run: Run, other: str) -> PairRows:
    """Every position of a run under the baseline and one other model."""
    baseline = run.model_names[0]
    return PairRows(
        baseline=run.distributions(baseline),
        other=run.distributions(other),
        mean=run.distributions(mean_measure(run, other)),
        other_over_baseline=run.cross_mean(baseline, of=other),
        baseline_over_other=run.cross_mean(other, of=baseline),
    )


def counted(run: Run, weighting: Weighting) -> Weighted:
    """What every position counts, by the problems of the run."""
    places = place_table(run)
    problems = {problem: code for code, problem in enumerate(places["problem_id"].unique())}
    return Weighted(
        weights=weights(places, weighting=weighting),
        clusters=places["problem_id"].map(problems).to_numpy(dtype=np.int64),
        size=len(problems),
    )


def mechanism(run: Run, other: str, *, asked: Asked) -> Found:
    """Evidence and verdict of one other model.

    Raises:
        UsageFault: no such other model.
        OutsideContract: the run cannot tell what this training kept.
    """
    place = other_index(run, other)
    found = evidence(
        pair_rows(run, other),
        kl=_kl(run, place),
        counted=counted(run, asked.weighting),
        reading=Reading(
            training=asked.training.decoding,
            kinds=KIND_DECODING,
            rule=settled_rule(run, asked.rule),
        ),
        rng=np.random.default_rng(asked.seed),
    )
    return Found(found, verdict(found, rules=asked.rules))


def _kl(run: Run, place: int) -> PerPosition:
    """The exact KL(baseline || other) at T = 1."""
    named = named_temperature(run, 1.0)
    if named is None:
        columns = pair_columns(run, run.model_names[place], decoding=KIND_DECODING)
        return columns["kl_baseline_other"]
    return run.array("kl_baseline_other")[:, place - 1, named].astype(np.float64)


EVIDENCE_COLUMNS = (
    "comparison",
    "figure",
    "estimate",
    "low",
    "high",
    "null_exchange",
    "null_drift",
    "p_value",
    "p_adjusted",
    "detectable",
    "reads",
    "prediction",
    "positions",
    "problems",
)
"""Columns of `evidence_table`."""


def evidence_table(found: Mapping[str, Found], *, asked: Asked) -> pd.DataFrame:
    """One row per comparison and figure; the difference of two models is the last comparison.

    Args:
        found: by the other model's name, the one looked at first, a control second.
        asked: as of `mechanism`.
    """
    rows = [row for name, one in found.items() for row in _rows(name, one, asked)]
    names = list(found)
    if len(names) > 1:
        first, second = names[:2]
        rows += _contrast_rows(contrast_name(first, second), found[first], found[second])
    return pd.DataFrame(rows, columns=list(EVIDENCE_COLUMNS))


def _rows(name: str, found: Found, asked: Asked) -> list[dict[str, object]]:
    adjusted = adjusted_p_values(found.evidence)
    rows = [
        _row(
            name,
            each.name,
            found.evidence.figures[each.name].own,
            prediction=each.says,
            null_exchange=found.evidence.figures[each.name].exchange.value,
            null_drift=found.evidence.figures[each.name].drift.value,
            p_value=found.evidence.figures[each.name].p_value,
            p_adjusted=adjusted.get(each.name, np.nan),
            reads=_reads(each, found.evidence.figures[each.name]),
        )
        for each in PREDICTIONS
    ]
    return [
        *rows,
        _temperature_row(name, found, adjusted, asked),
        _token_row(name, found, adjusted),
    ]


def _row(comparison: str, figure: str, own: Estimate, **more: object) -> dict[str, object]:
    low, high = own.interval(level=LEVEL)
    return {
        "comparison": comparison,
        "figure": figure,
        "estimate": own.value,
        "low": low,
        "high": high,
        "detectable": own.detectable(level=LEVEL),
        "positions": own.positions,
        "problems": own.clusters,
        **more,
    }


def _reads(prediction: Prediction, tested: Tested) -> str:
    """Beyond both nulls, and on which side."""
    if prediction.sign == 0:
        return ""
    if not tested.p_value <= 1 - LEVEL:
        return CANNOT_TELL
    side = np.sign(tested.beyond[0].value)
    return SUPPORTS if side == prediction.sign else CONTRADICTS


def _temperature_row(
    name: str, found: Found, adjusted: Mapping[str, float], asked: Asked
) -> dict[str, object]:
    null = found.evidence.temperature
    explained = null.share.value >= asked.rules.temperature_share
    return _row(
        name,
        TEMPERATURE,
        null.share,
        prediction=(
            f"KL that T* = {null.temperature:.3g} explains, out of fold; a temperature alone: "
            f"{asked.rules.temperature_share:g} or more, without a gap"
        ),
        p_value=null.share.p_value(),
        p_adjusted=adjusted[TEMPERATURE],
        reads=CONTRADICTS if explained else SUPPORTS,
    )


def _token_row(name: str, found: Found, adjusted: Mapping[str, float]) -> dict[str, object]:
    tokens = found.evidence.tokens
    return {
        "comparison": name,
        "figure": TOKENS,
        "estimate": tokens.share,
        "p_value": tokens.p_value,
        "p_adjusted": adjusted[TOKENS],
        "reads": "",
        "prediction": (
            "variance that a token's own shift tells beyond probability and edge "
            f"(standard deviation {tokens.shift:.3g} nats)"
        ),
    }


def _contrast_rows(name: str, first: Found, second: Found) -> list[dict[str, object]]:
    """Other less control, figure by figure; the same problems on both sides."""
    rows = []
    for each in PREDICTIONS:
        own = first.evidence.figures[each.name].own - second.evidence.figures[each.name].own
        p_value = own.p_value()
        told = p_value <= 1 - LEVEL and each.sign != 0
        reads = SUPPORTS if np.sign(own.value) == each.sign else CONTRADICTS
        rows.append(
            _row(
                name,
                each.name,
                own,
                p_value=p_value,
                reads=reads if told else CANNOT_TELL if each.sign else "",
                prediction=each.says,
            )
        )
    return rows
