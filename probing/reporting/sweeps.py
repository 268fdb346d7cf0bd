"""A threshold of the kinds swept: what of the shares and deltas hangs on where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from probing.analysis.deltas import DELTA_NAMES
from probing.analysis.estimates import Estimate
from probing.analysis.pair import Weighted
from probing.analysis.sweeps import AtKind, at_kinds, swept_rules
from probing.reporting.filters import Weighting, weights
from probing.reporting.pairing import PairReader
from probing.reporting.quantities import MODEL_QUANTITIES
from probing.settings import DEFAULT_ASSIGNMENT, Decoding, Inference, KindRule, require
from probing.store.reader import Run
from probing.vocabulary import Assignment, Kind

SWEPT_QUANTITIES = tuple(name for name in MODEL_QUANTITIES if name in DELTA_NAMES)
"""What can be looked at: statistics of one distribution, so that the null is known."""

SHOWN_QUANTITIES = ("top1_prob", "nucleus_size", "tail_mass", "entropy_kept_nats")
"""What is looked at unless asked otherwise."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep asks.

    Attributes:
        threshold: a name of `settings.THRESHOLDS`.
        values: where it is put.
        rule: all other thresholds, and the value that the preset has.
        assignment: whose kind counts.
        decoding: of the deltas; kinds stay at `KIND_DECODING`.
        quantities: each in `SWEPT_QUANTITIES`.
        weighting: which positions carry the figures.
    """

    threshold: str
    values: Sequence[float | int]
    rule: KindRule = field(default_factory=KindRule)
    assignment: Assignment = DEFAULT_ASSIGNMENT
    decoding: Decoding = field(default_factory=Decoding)
    quantities: Sequence[str] = SHOWN_QUANTITIES
    weighting: Weighting = field(default_factory=Weighting)


def sweep_table(
    run: Run, other: str, *, sweep: Sweep, level: float = Inference().level
) -> pd.DataFrame:
    """One row per value, kind and quantity.

    Columns `threshold`, `value`, `preset` (the preset's own value); `kind`, `share` (of all
    weight) with `share_low`, `share_high`, `positions`, `problems` of the kind; `quantity`, `delta`
    (weighted mean of other - baseline at the kind) with `low`, `high`, `null`, `null_low`,
    `null_high` (role exchange), `measured` positions. Intervals are t(G - 1) over problems.

    Raises:
        UsageFault: no such other model, threshold or quantity; a value that it cannot have.
        OutsideContract: a temperature or top-k that the run cannot answer exactly.
    """
    rules = swept_rules(sweep.rule, threshold=sweep.threshold, values=sweep.values)
    for name in sweep.quantities:
        known = f"quantity must be one of {', '.join(SWEPT_QUANTITIES)}"
        require(name in SWEPT_QUANTITIES, known, name)
    reader = PairReader.of(run, other)
    counted = Weighted(
        weights=weights(reader.places, weighting=sweep.weighting),
        clusters=reader.clusters,
        size=reader.places["problem_id"].nunique(),
    )
    deltas = reader.deltas(sweep.quantities, decoding=sweep.decoding)
    rows: list[dict[str, object]] = []
    for value, rule in zip(sweep.values, rules, strict=True):
        found = at_kinds(
            reader.kinds(rule), deltas=deltas, assignment=sweep.assignment, counted=counted
        )
        where = {
            "threshold": sweep.threshold,
            "value": float(value),
            "preset": bool(value == getattr(sweep.rule, sweep.threshold)),
        }
        rows += [
            {**where, "kind": kind.value, **row}
            for kind, one in found.items()
            for row in _kind_rows(one, level=level)
        ]
    return pd.DataFrame(rows)


def _kind_rows(one: AtKind, *, level: float) -> list[dict[str, object]]:
    share_low, share_high = one.share.interval(level=level)
    rows = []
    for name, each in one.deltas.items():
        low, high = _bounds(each.own, problems=one.problems, level=level)
        null_low, null_high = _bounds(each.null, problems=one.problems, level=level)
        rows.append(
            {
                "share": one.share.value,
                "share_low": share_low,
                "share_high": share_high,
                "positions": one.positions,
                "problems": one.problems,
                "quantity": name,
                "delta": each.own.value,
                "low": low,
                "high": high,
                "null": each.null.value,
                "null_low": null_low,
                "null_high": null_high,
                "measured": each.own.positions,
            }
        )
    return rows


def _bounds(estimate: Estimate, *, problems: int, level: float) -> tuple[float, float]:
    """The interval; of no width where no problem moves the estimate, as in a null by symmetry."""
    if problems > 1 and not estimate.influence.any():
        return estimate.value, estimate.value
    return estimate.interval(level=level)


def share_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Of a sweep, the share of every kind by value: a column each, in the order of the kinds.

    Args:
        table: of `sweep_table`.
    """
    once = table.drop_duplicates(["value", "kind"])
    where = ["threshold", "value", "preset"]
    wide = once.pivot(index=where, columns="kind", values="share")
    order = pd.MultiIndex.from_frame(once[where].drop_duplicates())
    wide = wide.reindex(index=order, columns=[kind.value for kind in Kind])
    return wide.reset_index().rename_axis(columns=None)
