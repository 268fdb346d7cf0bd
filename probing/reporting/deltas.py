"""Aggregate deltas with intervals, and the shares of kinds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probing.analysis.inference import ClusterInterval, cluster_intervals
from probing.reporting.comparison import kind_column
from probing.reporting.filters import Average, Weighting, weights
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Inference
from probing.vocabulary import Assignment, Kind, PerPosition, PositionIds, Stratum

DEFAULT_WEIGHTING, DEFAULT_INFERENCE = Weighting(), Inference()

ALL = "all"
"""What stands in the grouping columns of the row over all groups."""


def delta_table(
    comparison: pd.DataFrame,
    *,
    by: Sequence[str],
    assignment: Assignment,
    quantities: Sequence[str] = SHOWN_FIRST,
    weighting: Weighting = DEFAULT_WEIGHTING,
    inference: Inference = DEFAULT_INFERENCE,
) -> pd.DataFrame:
    """Weighted mean deltas of every group and of all together, one row per group and quantity.

    Columns: those of `by`; `quantity`; `baseline`, `other` (means over the positions where the
    delta is measured; NaN for pair quantities); `delta` (other - baseline; for a pair quantity its
    mean) with `low` and `high`; `positions`, `carriers`, `problems` with a value, `missing`
    positions without one; `share` of all weight in the group; `method` and `note` of the interval.
    Whole problems are resampled; the same seed gives the same bounds for the same positions.

    Args:
        comparison: of `comparison_table`, filtered or not.
        by: strata to group by; `Stratum.KIND` is the kind by `assignment`. Groups that do not
            occur have no rows. Empty: only the row over all.
        assignment: whose kind.
        quantities: at least one name, in the order of the rows.
        weighting: which positions carry the figures, and what each counts.
        inference: level, draws and seed of the intervals.

    Raises:
        KeyError: an unknown quantity or stratum.
    """
    columns = [str(column) for column in by]
    weight = weights(comparison, weighting=weighting)
    total = weight.sum()
    groups = grouping(comparison, by=columns, assignment=assignment)
    counted = comparison[weight > 0]
    weight, groups = weight[weight > 0], groups[weight > 0]
    clusters = pd.factorize(counted["problem_id"])[0]
    rows: list[dict[str, object]] = []
    for key, inside in _members(groups, columns):
        part = counted.iloc[inside]
        share = weight[inside].sum() / total if total else np.nan
        summaries = _summaries(
            part, quantities, clusters=clusters[inside], weighting=weighting, inference=inference
        )
        rows += [{**key, **summary, "share": share} for summary in summaries]
    return pd.DataFrame(rows, columns=[*columns, *DELTA_COLUMNS])


DELTA_COLUMNS = (
    "quantity",
    "baseline",
    "other",
    "delta",
    "low",
    "high",
    "positions",
    "carriers",
    "problems",
    "missing",
    "share",
    "method",
    "note",
)
"""Columns of a delta table after the grouping ones."""


def grouping(
    comparison: pd.DataFrame, *, by: Sequence[str], assignment: Assignment
) -> pd.DataFrame:
    """The grouping columns of every position; `kind` is the kind by the assignment."""
    named = {
        column: comparison[kind_column(assignment) if column == Stratum.KIND else column]
        for column in by
    }
    return pd.DataFrame(named, index=comparison.index)


def _members(
    groups: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[dict[str, str], PositionIds]]:
    """Positions of all, then of every group that occurs, with what identifies it."""
    every = np.arange(len(groups))
    found: list[tuple[dict[str, str], PositionIds]] = [(dict.fromkeys(columns, ALL), every)]
    if columns:
        for key, places in groups.groupby(list(columns), observed=True).indices.items():
            values = key if isinstance(key, tuple) else (key,)
            label = {column: str(value) for column, value in zip(columns, values, strict=True)}
            found.append((label, np.asarray(places)))
    return found


def _summaries(
    part: pd.DataFrame,
    quantities: Sequence[str],
    *,
    clusters: PositionIds,
    weighting: Weighting,
    inference: Inference,
) -> list[dict[str, object]]:
    """One row per quantity, over one group of positions."""
    values = part[[delta_column(name) for name in quantities]].to_numpy(dtype=np.float64)
    weight = np.stack([_weights_of(part, column, weighting=weighting) for column in values.T])
    # Columns that weigh positions alike share the draws, and the work.
    batches = [slice(0, len(quantities))]
    if (weight != weight[:1]).any():
        batches = [slice(i, i + 1) for i in range(len(quantities))]
    intervals = [
        interval
        for batch in batches
        for interval in cluster_intervals(
            values[:, batch],
            weights=weight[batch.start],
            clusters=clusters,
            settings=inference,
            rng=np.random.default_rng(inference.seed),
        )
    ]
    return [
        _summary(part, name, interval, weights=weight[place])
        for place, (name, interval) in enumerate(zip(quantities, intervals, strict=True))
    ]


def _weights_of(part: pd.DataFrame, values: PerPosition, *, weighting: Weighting) -> PerPosition:
    """Weights of one group's positions for one quantity.

    Where every carrier counts alike, it does so over its *measured* positions of the group.
    Positions that are not measured keep a weight too, so that they are counted as missing.
    """
    if weighting.average is Average.POSITION:
        return weights(part, weighting=weighting)
    measured = np.isfinite(values)
    result = np.empty(len(part))
    for inside in (measured, ~measured):
        result[inside] = weights(part[inside], weighting=weighting)
    return result


def _summary(
    part: pd.DataFrame, name: str, interval: ClusterInterval, *, weights: PerPosition
) -> dict[str, object]:
    measured = part[delta_column(name)].notna().to_numpy()
    means = {"baseline": np.nan, "other": np.nan}
    if QUANTITIES[name].of == "model" and measured.any():
        for side, column in (("baseline", baseline_column(name)), ("other", other_column(name))):
            own = part[column].to_numpy(dtype=np.float64)[measured]
            means[side] = float(np.average(own, weights=weights[measured]))
    return {
        "quantity": name,
        **means,
        "delta": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "positions": interval.positions,
        "carriers": int(part.loc[measured, "carrier"].nunique()),
        "problems": interval.clusters,
        "missing": interval.missing,
        "method": str(interval.method),
        "note": interval.note,
    }


def kind_shares(
    comparison: pd.DataFrame, *, weighting: Weighting = DEFAULT_WEIGHTING
) -> pd.DataFrame:
    """Share of every kind by each of the three assignments.

    Columns `assignment`, `kind`, `share` (weighted, sums to 1 per assignment; NaN when there is no
    position), `positions`. Every kind is there, also with none.
    """
    weight = weights(comparison, weighting=weighting)
    rows = []
    for assignment in Assignment:
        labels = comparison[kind_column(assignment)]
        for kind in Kind:
            inside = (labels == kind.value).to_numpy(dtype=bool) & (weight > 0)
            rows.append(
                {
                    "assignment": assignment.value,
                    "kind": kind.value,
                    "share": weight[inside].sum() / weight.sum() if weight.sum() else np.nan,
                    "positions": int(inside.sum()),
                }
            )
    return pd.DataFrame(rows)
