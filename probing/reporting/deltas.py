"""Aggregate deltas with intervals, and the shares of kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from probing.analysis.inference import ClusterInterval, Columns, cluster_intervals
from probing.analysis.nulls import Sample, role_exchange
from probing.analysis.side_by_side import side_by_side
from probing.reporting.comparison import kind_column
from probing.reporting.exchange import exchanged
from probing.reporting.filters import (
    WEIGHED_BY,
    Average,
    Filters,
    Weighting,
    kept,
    selected,
    weights,
)
from probing.reporting.happenings import event_column
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    baseline_column,
    delta_column,
    other_column,
)
from probing.settings import Inference
from probing.vocabulary import Assignment, PerPosition, PositionIds, PositionMask, Stratum

DEFAULT_FILTERS, DEFAULT_WEIGHTING, DEFAULT_INFERENCE = Filters(), Weighting(), Inference()

ALL = "all"
"""What stands in the grouping columns of the row over all groups."""


def delta_table(
    comparison: pd.DataFrame,
    *,
    by: Sequence[str],
    filters: Filters = DEFAULT_FILTERS,
    quantities: Sequence[str] = SHOWN_FIRST,
    weighting: Weighting = DEFAULT_WEIGHTING,
    inference: Inference = DEFAULT_INFERENCE,
) -> pd.DataFrame:
    """Weighted mean deltas of every group and of all together, one row per group and quantity.

    Columns: those of `by`; `quantity`; `baseline`, `other` (means over the positions where the
    delta is measured; NaN for pair quantities); `delta` (other - baseline; for a pair quantity its
    mean) with `low` and `high`; `null`, `null_low`, `null_high`: the role-exchange null (NaN for
    pair quantities); `positions`, `carriers`, `problems` with a value,
    `missing` positions without one; `share` of all weight in the group; `method` and `note` of the
    interval. Whole problems are resampled; the same seed gives the same bounds for the same
    positions.

    Args:
        comparison: of `comparison_table`, all positions: the null needs those that the filters
            would keep if the models changed places.
        by: strata to group by; `Stratum.KIND` is the kind and `Stratum.EVENT` the event by the
            filters' assignment; in `Stratum.SELECTOR` a position counts under each selector that
            chose it, so groups overlap. Groups that do not occur have no rows. Empty: only the row
            over all.
        filters: which positions are kept, and whose kind counts.
        quantities: at least one name, in the order of the rows.
        weighting: which positions carry the figures, and what each counts.
        inference: level, draws and seed of the intervals.

    Raises:
        KeyError: an unknown quantity or stratum.
    """
    columns = [str(column) for column in by]
    groups = list(grouping(by=columns, assignment=filters.assignment).values())
    comparison = comparison.assign(**{PROBLEM: pd.factorize(comparison["problem_id"])[0]})
    # Fewer columns are copied faster.
    deltas = [delta_column(name) for name in quantities]
    needed = list(dict.fromkeys([*WEIGHED_BY, PROBLEM, *groups, *deltas]))
    own, mirror = (
        _counted(
            side[[*needed, *more]][kept(side, filters=filters)],
            groups=groups,
            weighting=weighting,
        )
        for side, more in ((comparison, _sides(quantities)), (exchanged(comparison), []))
    )
    total = own.weight.sum()
    empty = np.zeros(0, dtype=np.int64)

    def of_group(key: tuple[str, ...]) -> list[dict[str, object]]:
        inside = own.members[key]
        summaries = _summaries(
            own.part(inside),
            mirror.part(mirror.members.get(key, empty)),
            quantities,
            weighting=weighting,
            inference=inference,
        )
        share = own.weight[inside].sum() / total if total else np.nan
        group = dict(zip(columns, key, strict=True))
        return [{**group, **summary, "share": share} for summary in summaries]

    rows = [row for group in side_by_side(of_group, list(own.members)) for row in group]
    return pd.DataFrame(rows, columns=[*columns, *DELTA_COLUMNS])


DELTA_COLUMNS = (
    "quantity",
    "baseline",
    "other",
    "delta",
    "low",
    "high",
    "null",
    "null_low",
    "null_high",
    "positions",
    "carriers",
    "problems",
    "missing",
    "share",
    "method",
    "note",
)
"""Columns of a delta table after the grouping ones."""


PROBLEM = "problem"
"""Column with the problem of each position as a number, while a table is made."""


def _sides(quantities: Sequence[str]) -> list[str]:
    """Columns with the values of both models."""
    return [
        column(name)
        for name in dict.fromkeys(quantities)
        if QUANTITIES[name].of == "model"
        for column in (baseline_column, other_column)
    ]


@dataclass(frozen=True)
class _Part:
    """Positions of one group and the problem of each as a number."""

    frame: pd.DataFrame
    clusters: PositionIds


@dataclass(frozen=True)
class _Counted:
    """Positions that count, and which of them make up each group; that of all comes first."""

    frame: pd.DataFrame
    weight: PerPosition
    clusters: PositionIds
    members: dict[tuple[str, ...], PositionIds]

    def part(self, inside: PositionIds) -> _Part:
        """One group; the same object where that is all positions."""
        if len(inside) == len(self.frame):
            return _Part(self.frame, self.clusters)
        return _Part(self.frame.iloc[inside], self.clusters[inside])


def _counted(frame: pd.DataFrame, *, groups: list[str], weighting: Weighting) -> _Counted:
    weight = weights(frame, weighting=weighting)
    if not (weight > 0).all():
        frame, weight = frame[weight > 0], weight[weight > 0]
    clusters = frame[PROBLEM].to_numpy(dtype=np.int64)
    return _Counted(frame, weight, clusters, _members(frame[groups]))


def grouping(*, by: Sequence[str], assignment: Assignment) -> dict[str, str]:
    """By stratum, the column of a comparison that holds it; kind and event by the assignment."""
    assigned: dict[str, str] = {
        Stratum.KIND: kind_column(assignment),
        Stratum.EVENT: event_column(assignment),
    }
    return {column: assigned.get(column, column) for column in by}


def joined(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """The labels of several columns as one: `lock-like / easy`; empty texts without columns."""
    rows = table[list(columns)].astype("str").itertuples(index=False)
    return pd.Series([" / ".join(row) for row in rows], index=table.index, dtype="str")


def _members(groups: pd.DataFrame) -> dict[tuple[str, ...], PositionIds]:
    """Positions of all, then of every group that occurs, by what identifies it.

    A position is in the group of every selector that chose it.
    """
    columns = list(groups.columns)
    found: dict[tuple[str, ...], PositionIds] = {(ALL,) * len(columns): np.arange(len(groups))}
    if columns:
        single = groups.reset_index(drop=True)
        if Stratum.SELECTOR in columns:
            single[Stratum.SELECTOR] = single[Stratum.SELECTOR].str.split()
            single = single.explode(Stratum.SELECTOR)
        positions = single.index.to_numpy()
        for key, places in single.groupby(columns, observed=True).indices.items():
            values = key if isinstance(key, tuple) else (key,)
            found[tuple(str(value) for value in values)] = positions[places]
    return found


def in_group(
    comparison: pd.DataFrame, *, group: Mapping[str, str], assignment: Assignment
) -> PositionMask:
    """Whether each position lies in a group of `delta_table`.

    Args:
        comparison: of `comparison_table`.
        group: the label of each stratum; empty takes all.
        assignment: of the filters that the table was made with.
    """
    inside = np.ones(len(comparison), dtype=bool)
    for stratum, column in grouping(by=list(group), assignment=assignment).items():
        if stratum == Stratum.SELECTOR:
            inside &= selected(comparison, selector=group[stratum])
        else:
            inside &= (comparison[column].astype("str") == group[stratum]).to_numpy(dtype=bool)
    return inside


def _summaries(
    part: _Part,
    mirror: _Part,
    quantities: Sequence[str],
    *,
    weighting: Weighting,
    inference: Inference,
) -> list[dict[str, object]]:
    """One row per quantity, over one group of positions."""
    own = _sample(part, quantities, weighting=weighting)
    # Columns that weigh positions alike share the draws, and the work.
    batches = [slice(0, len(quantities))]
    if (own.weights != own.weights[:, :1]).any():
        batches = [slice(i, i + 1) for i in range(len(quantities))]
    intervals = [
        interval
        for batch in batches
        for interval in cluster_intervals(
            own.values[:, batch],
            weights=own.weights[:, batch.start],
            clusters=own.clusters,
            settings=inference,
            rng=np.random.default_rng(inference.seed),
        )
    ]
    other_side = _sample(mirror, quantities, weighting=weighting)
    null = role_exchange(own, other_side, level=inference.level)
    return [
        {
            **_summary(part.frame, name, interval, weights=own.weights[:, place]),
            "null": float(null.value[place]),
            "null_low": float(null.low[place]),
            "null_high": float(null.high[place]),
        }
        for place, (name, interval) in enumerate(zip(quantities, intervals, strict=True))
    ]


def _sample(part: _Part, quantities: Sequence[str], *, weighting: Weighting) -> Sample:
    values = part.frame[[delta_column(name) for name in quantities]].to_numpy(dtype=np.float64)
    own = _weights_of(part.frame, values, weighting=weighting)
    return Sample(values=values, weights=own, clusters=part.clusters)


def _weights_of(part: pd.DataFrame, values: Columns, *, weighting: Weighting) -> Columns:
    """Weights of one group's positions for each quantity.

    Where every carrier counts alike, it does so over its *measured* positions of the group.
    Positions that are not measured keep a weight too, so that they are counted as missing.
    """
    if weighting.average is Average.POSITION:
        return np.broadcast_to(weights(part, weighting=weighting)[:, None], values.shape)
    result = np.empty(values.shape)
    for column, measured in enumerate(np.isfinite(values).T):
        for inside in (measured, ~measured):
            result[inside, column] = weights(part[inside], weighting=weighting)
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
