"""Every position under every model: the wide comparison of a pair and the long table of a run."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probing.analysis.decoding import Statistics, realised_logprob
from probing.analysis.deltas import delta
from probing.analysis.kinds import KindCodes, kinds, with_entropy_cut
from probing.errors import NoCarriersLeft
from probing.reporting.columns import with_columns
from probing.reporting.happenings import event_columns, labelled
from probing.reporting.places import headline_weights, place_table, right_models
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    QUANTITIES,
    TOP,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import GREEDY_BELOW, Decoding, KindRule, require
from probing.store.facts import pair_gaps, pair_overlap
from probing.store.finished import OVERLAP
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, Stratum

SAME_TEMPERATURE = 1e-9
"""Two temperatures closer than this are the same named temperature."""

KLS = ("kl_baseline_other", "kl_other_baseline")
"""Divergences known at any temperature: from the baseline to the other, and back."""

REALISED, RANK = "realised_logprob", "realised_rank"

OWN_QUANTITIES = (
    *(field.name for field in dataclasses.fields(Statistics) if field.name in MODEL_QUANTITIES),
    REALISED,
    RANK,
)
"""Quantities of one model alone: all of a model but `baseline_top1_prob`."""

KIND_DECODING = Decoding()
"""Kinds are taken under this decoding unless asked otherwise: the default of method.md section 5.

So a position keeps its kind while the temperature is moved, and its deltas stay comparable.
"""


EXCHANGED_TOP1 = ("exchanged_top1_prob_baseline", "exchanged_top1_prob_other")
"""The probability of the other's top-1 token under the baseline and under the other model."""


def kind_column(assignment: Assignment) -> str:
    """Column of a comparison that holds the kind by this assignment."""
    return f"kind_{assignment}"


def other_names(run: Run) -> tuple[str, ...]:
    """The models that can be compared with the baseline."""
    return run.model_names[1:]


def other_index(run: Run, other: str) -> int:
    """The place of an other model on the model axis.

    Raises:
        UsageFault: the run has no such other model; those it has are listed.
    """
    rule = f"other must be one of {', '.join(other_names(run))}"
    require(other in other_names(run), rule, other)
    return run.model_names.index(other)


def mean_measure(run: Run, other: str) -> int:
    """The measure that is the mean of the baseline's and the other's logits."""
    return len(run.model_names) + other_index(run, other) - 1


def settled_rule(run: Run, rule: KindRule, *, kind_decoding: Decoding = KIND_DECODING) -> KindRule:
    """The rule with the cut of its forks, taken over all headline positions, if it needs one."""
    if rule.fork_entropy_share == 0 or rule.fork_entropy is not None:
        return rule
    baseline = run.statistics(run.model_names[0], decoding=kind_decoding, rule=rule)
    return with_entropy_cut(
        rule,
        entropy_nats=baseline.entropy_nats.astype(np.float64),
        weights=headline_weights(place_table(run)),
    )


def comparison_table(
    run: Run,
    *,
    other: str,
    decoding: Decoding,
    rule: KindRule,
    kind_decoding: Decoding = KIND_DECODING,
    quantities: Sequence[str] = tuple(QUANTITIES),
) -> pd.DataFrame:
    """One row per position: place, strata, kinds by the three assignments, values and deltas.

    Columns of `standing_table` and `value_columns`.

    Args:
        run: any committed state.
        other: name of the model compared with the baseline.
        decoding: temperature and truncation of the quantities.
        rule: thresholds of the kinds.
        kind_decoding: temperature and truncation under which kinds are taken.
        quantities: those whose values are wanted.

    Raises:
        UsageFault: no such other model.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    standing = standing_table(run, other=other, rule=rule, kind_decoding=kind_decoding)
    values = value_columns(run, other, decoding=decoding, rule=rule, quantities=quantities)
    return with_columns(standing, values)


def standing_table(
    run: Run, *, other: str, rule: KindRule, kind_decoding: Decoding = KIND_DECODING
) -> pd.DataFrame:
    """What of a comparison does not hang on the decoding of its quantities, one row per position.

    Columns of `place_table`; `right_model`; `kind_mean`, `kind_baseline`, `kind_other`; those of
    `event_columns`.

    Args:
        run: as `comparison_table`.
        other: as `comparison_table`.
        rule: as `comparison_table`.
        kind_decoding: as `comparison_table`.

    Raises:
        UsageFault: no such other model.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    other_index(run, other)
    _refuse_empty(run)
    of_kinds = {
        assignment: run.statistics(measure, decoding=kind_decoding, rule=rule)
        for assignment, measure in (
            (Assignment.MEAN, mean_measure(run, other)),
            (Assignment.BASELINE, run.model_names[0]),
            (Assignment.OTHER, other),
        )
    }
    settled = settled_rule(run, rule, kind_decoding=kind_decoding)
    deciding = KindCodes(
        **{assignment.value: kinds(each, rule=settled) for assignment, each in of_kinds.items()}
    )
    columns: dict[str, Any] = {
        kind_column(assignment): kind_labels(deciding.by(assignment)) for assignment in Assignment
    }
    columns |= event_columns(
        run,
        other,
        kinds=deciding,
        entropy_change=_entropy_change(of_kinds[Assignment.BASELINE], of_kinds[Assignment.OTHER]),
        rule=rule,
        kind_decoding=kind_decoding,
    )
    columns[Stratum.RIGHT] = right_models(run, other)
    return with_columns(place_table(run), columns)


def answer(
    run: Run,
    others: Sequence[str],
    *,
    decoding: Decoding,
    rule: KindRule,
    quantities: Sequence[str],
) -> None:
    """Let the run know, from one reading, what `value_columns` of several others will ask for.

    Args:
        run: the run.
        others: names of the other models.
        decoding: as `value_columns`.
        rule: as `value_columns`.
        quantities: as `value_columns`.
    """
    pairs = [
        pair
        for other in others
        for pair in kls_to_compute(run, other, decoding=decoding, names=quantities).values()
    ]
    models = () if set(quantities) <= set(PAIR_QUANTITIES) else (run.model_names[0], *others)
    run.answer(models, pairs, decoding=decoding, rule=rule)


def value_columns(
    run: Run,
    other: str,
    *,
    decoding: Decoding,
    rule: KindRule,
    quantities: Sequence[str] = tuple(QUANTITIES),
) -> dict[str, PerPosition]:
    """Values and deltas of one comparison.

    For every model quantity q: `q_baseline`, `q_other`, `q_delta` (other - baseline, NaN where
    either is not finite), with `baseline_top1_prob` also `EXCHANGED_TOP1`; every pair quantity
    under its own name.

    Args:
        run: the run.
        other: name of the other model.
        decoding: temperature and truncation.
        rule: says which tokens are close.
        quantities: those that are wanted.

    Raises:
        KeyError: an unknown quantity.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    wanted = {QUANTITIES[name].name for name in quantities}
    columns: dict[str, PerPosition] = {}
    if not wanted <= set(PAIR_QUANTITIES):
        baseline = run.model_names[0]
        sides = run.statistics_of((baseline, other), decoding=decoding, rule=rule)
        values = [
            model_columns(
                run,
                name,
                stats,
                decoding=decoding,
                names=[each for each in OWN_QUANTITIES if each in wanted],
            )
            for name, stats in zip((baseline, other), sides, strict=True)
        ]
        if TOP in wanted:
            crossed = crossed_top1(run, other, *sides, decoding=decoding)
            values[0][TOP], values[1][TOP] = sides[0].top1_prob, crossed[0]
            exchanged = (crossed[1], sides[1].top1_prob)
        for name in MODEL_QUANTITIES:
            if name in wanted:
                if name == TOP:
                    columns |= dict(zip(EXCHANGED_TOP1, exchanged, strict=True))
                first, second = (side[name] for side in values)
                columns[baseline_column(name)] = first
                columns[other_column(name)] = second
                columns[delta_column(name)] = delta(first, second)
    pairs = [name for name in PAIR_QUANTITIES if name in wanted]
    return columns | pair_columns(run, other, decoding=decoding, names=pairs)


def crossed_top1(
    run: Run, other: str, baseline_side: Statistics, other_side: Statistics, *, decoding: Decoding
) -> tuple[PerPosition, PerPosition]:
    """The probability of each model's top-1 token under the other model, before truncation.

    First that of the baseline's token under the other, then that of the other's under the
    baseline. NaN where the token is no candidate.
    """
    gaps = pair_gaps(run, other)
    if decoding.temperature < GREEDY_BELOW:
        same = (baseline_side.top1_id == other_side.top1_id).astype(np.float64)
        first, second = (np.where(np.isnan(gap), np.nan, same) for gap in gaps.T)
    else:
        scaled = gaps / decoding.temperature
        first = np.exp(scaled[:, 0]) * other_side.top1_prob
        second = np.exp(scaled[:, 1]) * baseline_side.top1_prob
    return first, second


def _entropy_change(baseline: Statistics, other: Statistics) -> PerPosition:
    first, second = (stats.entropy_nats.astype(np.float64) for stats in (baseline, other))
    change: PerPosition = second - first
    return change


def position_table(
    run: Run,
    *,
    decoding: Decoding,
    rule: KindRule,
    kind_decoding: Decoding = KIND_DECODING,
) -> pd.DataFrame:
    """One row per position and model, baseline first within a position.

    Columns of `place_table`; `model`, `kind` (of that model's own distribution), the decoding,
    every model quantity, and the pair quantities against the baseline (NaN for the baseline).

    Raises:
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    _refuse_empty(run)
    places = place_table(run)
    baseline = run.model_names[0]
    first = run.statistics(baseline, decoding=decoding, rule=rule)
    parts = []
    for name in run.model_names:
        stats = run.statistics(name, decoding=decoding, rule=rule)
        own: dict[str, Any] = {
            "model": name,
            "temperature": decoding.temperature,
            "top_k": decoding.top_k,
            "top_p": decoding.top_p,
            "kind": kind_labels(kind_codes(run, name, rule=rule, decoding=kind_decoding)),
            "top1_id": stats.top1_id,
        }
        own |= model_columns(run, name, stats, decoding=decoding)
        if name == baseline:
            own[TOP] = stats.top1_prob
            own |= dict.fromkeys(PAIR_QUANTITIES, np.nan)
        else:
            own[TOP] = crossed_top1(run, name, first, stats, decoding=decoding)[0]
            own |= pair_columns(run, name, decoding=decoding)
        parts.append(places.assign(**own))
    table = pd.concat(parts, ignore_index=True)
    return table.sort_values("row", kind="stable", ignore_index=True)


def kind_codes(run: Run, measure: str | int, *, rule: KindRule, decoding: Decoding) -> PositionIds:
    """The kind of every position by one measure, as codes."""
    settled = settled_rule(run, rule, kind_decoding=decoding)
    return kinds(run.statistics(measure, decoding=decoding, rule=rule), rule=settled)


def kind_labels(codes: PositionIds) -> "pd.Categorical[str]":
    """Kind codes as labels, categories in the order of `Kind`."""
    return labelled(codes, [kind.value for kind in Kind])


def model_columns(
    run: Run,
    model: str,
    stats: Statistics,
    *,
    decoding: Decoding,
    names: Sequence[str] = OWN_QUANTITIES,
) -> dict[str, PerPosition]:
    """Quantities of one model alone, by name.

    Args:
        run: the run.
        model: name of the model.
        stats: of that model under `decoding`.
        decoding: as of `stats`.
        names: among `OWN_QUANTITIES`.
    """
    index = run.measure_index(model)

    def column(name: str) -> PerPosition:
        if name == REALISED:
            logits = run.array("realised_logit")[:, index]
            return realised_logprob(logits, log_z=stats.log_z, temperature=decoding.temperature)
        values = run.array(name)[:, index] if name == RANK else getattr(stats, name)
        return np.asarray(values, dtype=np.float64)

    return {name: column(name) for name in names}


def pair_columns(
    run: Run, other: str, *, decoding: Decoding, names: Sequence[str] = PAIR_QUANTITIES
) -> dict[str, PerPosition]:
    """Pair quantities of the baseline and one other model, by name.

    At the temperatures named when the run was scored, divergences are the exact stored ones; at
    others the KLs come from candidates and tail, and the JS is NaN, since it cannot be recovered.
    """
    columns: dict[str, PerPosition] = {}
    divergences = [name for name in names if name != OVERLAP]
    named = named_temperature(run, decoding.temperature)
    if named is not None:
        pair = other_index(run, other) - 1
        for name in divergences:
            columns[name] = run.array(name)[:, pair, named].astype(np.float64)
    else:
        # The JS is not known here, nor any divergence where greedy leaves two single tokens: it is
        # 0 or infinite then, and no mean of it tells anything.
        columns |= {name: np.full(len(run), np.nan) for name in divergences}
        columns |= {
            name: run.kl_nats(*pair, temperature=decoding.temperature)
            for name, pair in kls_to_compute(
                run, other, decoding=decoding, names=divergences
            ).items()
        }
    if OVERLAP in names:
        columns[OVERLAP] = pair_overlap(run, other, decoding=decoding)
    return {name: columns[name] for name in names}


def kls_to_compute(
    run: Run, other: str, *, decoding: Decoding, names: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Whose KL(a || b) each of these quantities needs, from candidates and tail.

    None at a named temperature, where they are stored, and none of a greedy decoding.
    """
    at = decoding.temperature
    if at < GREEDY_BELOW or named_temperature(run, at) is not None:
        return {}
    baseline = run.model_names[0]
    pairs = dict(zip(KLS, [(baseline, other), (other, baseline)], strict=True))
    return {name: pair for name, pair in pairs.items() if name in names}


def named_temperature(run: Run, temperature: float) -> int | None:
    """The place of a temperature among those named when the run was scored, if it is one."""
    named = np.asarray(run.manifest.settings.scoring.temperatures)
    same = np.flatnonzero(np.abs(named - temperature) < SAME_TEMPERATURE)
    return int(same[0]) if len(same) else None


def _refuse_empty(run: Run) -> None:
    if len(run) == 0:
        raise NoCarriersLeft(
            f"{run.location} must hold at least one committed unit, got none of "
            f"{len(run.plan.units)}; wait for the scorer, or go on with `probing score`"
        )
