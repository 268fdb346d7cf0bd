"""Aggregate deltas with intervals, and the shares of kinds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from probing.analysis.inference import ClusterInterval, cluster_interval
from probing.reporting.comparison import kind_column
from probing.reporting.filters import Weighting, weights
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
        quantities: names, in the order of the rows.
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
        part, share = counted.iloc[inside], weight[inside].sum() / total
        for name in quantities:
            summary = _summary(
                part,
                name,
                weights=_measured_weights(part, name, weighting=weighting),
                clusters=clusters[inside],
                inference=inference,
            )
            rows.append({**key, "quantity": name, **summary, "share": share})
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


def _measured_weights(part: pd.DataFrame, name: str, *, weighting: Weighting) -> PerPosition:
    """Weights within one group.

    Where every carrier counts alike, it does so over its measured positions of the group.
    Positions that are not measured keep a weight, so that they are counted as missing.
    """
    measured = part[delta_column(name)].notna().to_numpy()
    result = np.empty(len(part))
    for inside in (measured, ~measured):
        result[inside] = weights(part[inside], weighting=weighting)
    return result


def _summary(
    part: pd.DataFrame,
    name: str,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    inference: Inference,
) -> dict[str, object]:
    values = part[delta_column(name)].to_numpy(dtype=np.float64)
    interval: ClusterInterval = cluster_interval(
        values,
        weights=weights,
        clusters=clusters,
        settings=inference,
        rng=np.random.default_rng(inference.seed),
    )
    measured = np.isfinite(values)
    means = {"baseline": np.nan, "other": np.nan}
    if QUANTITIES[name].of == "model" and measured.any():
        for side, column in (("baseline", baseline_column(name)), ("other", other_column(name))):
            own = part[column].to_numpy(dtype=np.float64)[measured]
            means[side] = float(np.average(own, weights=weights[measured]))
    return {
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
