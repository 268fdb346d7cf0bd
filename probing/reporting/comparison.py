"""Every position under every model: the wide comparison of a pair and the long table of a run."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from probing.analysis.decoding import (
    Statistics,
    nucleus_jaccard,
    probability_of,
    realised_logprob,
)
from probing.analysis.deltas import delta
from probing.analysis.kinds import KindCodes, kinds, with_entropy_cut
from probing.analysis.moments import kl_nats
from probing.analysis.side_by_side import side_by_side
from probing.errors import NoCarriersLeft
from probing.reporting.happenings import event_columns, labelled
from probing.reporting.places import headline_weights, place_table, right_models
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import GREEDY_BELOW, Decoding, KindRule, require
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, Stratum

SAME_TEMPERATURE = 1e-9
"""Two temperatures closer than this are the same named temperature."""

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
) -> pd.DataFrame:
    """One row per position: place, strata, kinds by the three assignments, values and deltas.

    Columns of `place_table`; `right_model`; `kind_mean`, `kind_baseline`, `kind_other`; those of
    `event_columns`; `EXCHANGED_TOP1`; for every model quantity q: `q_baseline`, `q_other`,
    `q_delta` (other - baseline, NaN where either is not finite); every pair quantity under its own
    name.

    Args:
        run: any committed state.
        other: name of the model compared with the baseline.
        decoding: temperature and truncation of the quantities.
        rule: thresholds of the kinds.
        kind_decoding: temperature and truncation under which kinds are taken.

    Raises:
        UsageFault: no such other model.
        NoCarriersLeft: no unit is committed yet.
        OutsideContract: a temperature or top-k the run cannot answer exactly.
    """
    other_index(run, other)
    _refuse_empty(run)
    baseline = run.model_names[0]
    stats: dict[str | int, Statistics] = {
        name: run.statistics(name, decoding=decoding, rule=rule) for name in (baseline, other)
    }
    top_ids = stats[baseline].top1_id
    values_a = model_columns(run, baseline, stats[baseline], top_ids, decoding=decoding)
    values_b = model_columns(run, other, stats[other], top_ids, decoding=decoding)
    at_hand = stats if kind_decoding == decoding else {}
    of_kinds = {
        assignment: at_hand.get(measure)
        or run.statistics(measure, decoding=kind_decoding, rule=rule)
        for assignment, measure in (
            (Assignment.MEAN, mean_measure(run, other)),
            (Assignment.BASELINE, baseline),
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
    for name in MODEL_QUANTITIES:
        columns[baseline_column(name)] = values_a[name]
        columns[other_column(name)] = values_b[name]
        columns[delta_column(name)] = delta(values_a[name], values_b[name])
    columns |= exchanged_top1(run, other, stats[other].top1_id, decoding=decoding)
    columns |= pair_columns(run, other, decoding=decoding)
    columns[Stratum.RIGHT] = right_models(run, other)
    return place_table(run).assign(**columns)


def exchanged_top1(
    run: Run, other: str, top_ids: PositionIds, *, decoding: Decoding
) -> dict[str, PerPosition]:
    """What `baseline_top1_prob` would be in exchanged roles: of the *other's* top-1, under both.

    Args:
        run: the run.
        other: name of the other model.
        top_ids: its top-1 id of every position.
        decoding: of the probabilities.
    """
    return {
        column: _probabilities(run, model, top_ids, temperature=decoding.temperature)
        for column, model in zip(EXCHANGED_TOP1, (run.model_names[0], other), strict=True)
    }


def _probabilities(run: Run, model: str, ids: PositionIds, *, temperature: float) -> PerPosition:
    """`probability_of` for every row of the run."""
    parts = side_by_side(
        lambda rows: probability_of(
            run.distributions(model, rows=rows), ids[rows], temperature=temperature
        ),
        run.row_blocks(),
    )
    return np.concatenate(parts)


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
    top_ids = run.statistics(baseline, decoding=decoding, rule=rule).top1_id
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
        own |= model_columns(run, name, stats, top_ids, decoding=decoding)
        if name == baseline:
            own |= dict.fromkeys(PAIR_QUANTITIES, np.nan)
        else:
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
    top_ids: PositionIds,
    *,
    decoding: Decoding,
) -> dict[str, PerPosition]:
    """Every model quantity of one model, by name.

    Args:
        run: the run.
        model: name of the model.
        stats: of that model under `decoding`.
        top_ids: the baseline's top-1 id of every position.
        decoding: as of `stats`.
    """
    index = run.measure_index(model)
    known = {
        field.name: np.asarray(getattr(stats, field.name), dtype=np.float64)
        for field in dataclasses.fields(Statistics)
        if field.name in MODEL_QUANTITIES
    }
    return known | {
        "baseline_top1_prob": _probabilities(run, model, top_ids, temperature=decoding.temperature),
        "realised_logprob": realised_logprob(
            run.array("realised_logit")[:, index],
            log_z=stats.log_z,
            temperature=decoding.temperature,
        ),
        "realised_rank": run.array("realised_rank")[:, index].astype(np.float64),
    }


@dataclass(frozen=True)
class _PairBlock:
    kl_baseline_other: PerPosition
    kl_other_baseline: PerPosition
    nucleus_jaccard: PerPosition


def pair_columns(run: Run, other: str, *, decoding: Decoding) -> dict[str, PerPosition]:
    """Every pair quantity of the baseline and one other model, by name.

    At the temperatures named when the run was scored, divergences are the exact stored ones; at
    others the KLs come from candidates and tail, and the JS is NaN, since it cannot be recovered.
    """
    blocks = side_by_side(
        lambda rows: _pair_block(run, other, rows, decoding=decoding), run.row_blocks()
    )
    columns = {
        field.name: np.concatenate([getattr(block, field.name) for block in blocks])
        for field in dataclasses.fields(_PairBlock)
    }
    columns["js"] = np.full(len(run), np.nan)
    if decoding.temperature < GREEDY_BELOW:
        # Between two single tokens a divergence is 0 or infinite, and no mean of it tells anything.
        columns["kl_baseline_other"] = columns["kl_other_baseline"] = columns["js"]
    named = named_temperature(run, decoding.temperature)
    if named is not None:
        pair = other_index(run, other) - 1
        for name in ("kl_baseline_other", "kl_other_baseline", "js"):
            columns[name] = run.array(name)[:, pair, named].astype(np.float64)
    return columns


def named_temperature(run: Run, temperature: float) -> int | None:
    """The place of a temperature among those named when the run was scored, if it is one."""
    named = np.asarray(run.manifest.settings.scoring.temperatures)
    same = np.flatnonzero(np.abs(named - temperature) < SAME_TEMPERATURE)
    return int(same[0]) if len(same) else None


def _pair_block(run: Run, other: str, rows: PositionIds, *, decoding: Decoding) -> _PairBlock:
    baseline, temperature = run.model_names[0], decoding.temperature
    a = run.distributions(baseline, rows=rows)
    b = run.distributions(other, rows=rows)
    return _PairBlock(
        kl_baseline_other=kl_nats(
            a,
            b,
            cross_mean=run.cross_mean(baseline, of=other, rows=rows),
            temperature_a=temperature,
            temperature_b=temperature,
        ),
        kl_other_baseline=kl_nats(
            b,
            a,
            cross_mean=run.cross_mean(other, of=baseline, rows=rows),
            temperature_a=temperature,
            temperature_b=temperature,
        ),
        nucleus_jaccard=nucleus_jaccard(a, b, decoding=decoding),
    )


def _refuse_empty(run: Run) -> None:
    if len(run) == 0:
        raise NoCarriersLeft(
            f"{run.location} must hold at least one committed unit, got none of "
            f"{len(run.plan.units)}; wait for the scorer, or go on with `probing score`"
        )
