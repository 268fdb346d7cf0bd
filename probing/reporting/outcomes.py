"""What became of the positions: shares of kinds and events, transitions, assignments, spread."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from probing.analysis.events import SYMMETRIC
from probing.analysis.kinds import CODES as KIND_CODES
from probing.analysis.transitions import transition_shares
from probing.reporting.comparison import kind_column
from probing.reporting.contrasts import (
    COMPARISON,
    against_baseline,
    contrast_name,
    delta_tables,
)
from probing.reporting.deltas import (
    ALL,
    DEFAULT_FILTERS,
    DEFAULT_INFERENCE,
    DEFAULT_WEIGHTING,
    grouping,
    with_family,
)
from probing.reporting.exchange import exchanged
from probing.reporting.filters import Filters, Weighting, held, keep, weights
from probing.reporting.quantities import SHOWN_FIRST, delta_column
from probing.settings import Inference
from probing.vocabulary import Assignment, Event, Kind, PerPosition, Stratum


def kind_shares(
    comparison: pd.DataFrame, *, weighting: Weighting = DEFAULT_WEIGHTING
) -> pd.DataFrame:
    """Share of every kind by each of the three assignments.

    Columns `assignment`, `kind`, `share` (weighted, sums to 1 per assignment; NaN when there is no
    position), `positions`. Every kind is there, also with none.
    """
    weight, positions = weights(comparison, weighting=weighting), held(comparison)
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
                    "positions": int(positions[inside].sum()),
                }
            )
    return pd.DataFrame(rows)


def event_table(
    comparison: pd.DataFrame,
    *,
    filters: Filters = DEFAULT_FILTERS,
    weighting: Weighting = DEFAULT_WEIGHTING,
) -> pd.DataFrame:
    """How many positions each event takes, with what selection alone would give.

    Columns `kind` (assigned), `event`, `share` (weighted, of all kept; sums to 1), `share_of_kind`,
    `null` (the mean of `share` and of the share in exchanged roles), `null_by_symmetry` (that is
    the share itself, whatever happened: see `symmetric_events`), `positions`. Kinds and events that
    occur in neither role have no row.

    Args:
        comparison: of `comparison_table`, all positions.
        filters: which are kept, and whose kind counts.
        weighting: what each counts.
    """
    sums = _event_sums(comparison, filters=filters, weighting=weighting)
    return _event_rows(sums, filters=filters)


def event_tables(
    compared: Mapping[str, pd.DataFrame],
    *,
    filters: Filters = DEFAULT_FILTERS,
    weighting: Weighting = DEFAULT_WEIGHTING,
) -> pd.DataFrame:
    """`event_table` of other and control over the same rows, then their difference.

    The comparison is named in a first column. An event that occurs under one of them alone has a
    share of 0 under the other. The difference is of shares and of nulls; it has no positions.

    Args:
        compared: of `comparisons`.
        filters: as `event_table`.
        weighting: as `event_table`.
    """
    sums = {
        name: _event_sums(comparison, filters=filters, weighting=weighting)
        for name, comparison in against_baseline(compared).items()
    }
    every = pd.concat(sums.values()).index.unique()
    rows = {
        name: _event_rows(own.reindex(every, fill_value=0), filters=filters)
        for name, own in sums.items()
    }
    return _with_difference(rows, of=("share", "share_of_kind", "null"))


def symmetric_events(filters: Filters) -> frozenset[str]:
    """Events whose share and null are one and the same by construction.

    Only under the mean, and not where the filters let events through that change with the roles:
    then the share is one of another whole.
    """
    names = frozenset(event.value for event in SYMMETRIC)
    symmetric = filters.assignment is Assignment.MEAN and names.issuperset(filters.event)
    return names if symmetric else frozenset()


def _event_sums(
    comparison: pd.DataFrame, *, filters: Filters, weighting: Weighting
) -> pd.DataFrame:
    """Share, null and positions by assigned kind and event."""
    own, mirror = (
        _counted(keep(side, filters=filters), filters.assignment, weighting=weighting)
        for side in (comparison, exchanged(comparison))
    )
    sums = own.reindex(own.index.union(mirror.index), fill_value=0)
    beside = mirror["share"].reindex(sums.index, fill_value=0)
    return sums.assign(null=(sums["share"] + beside) / 2)


def _counted(kept: pd.DataFrame, assignment: Assignment, *, weighting: Weighting) -> pd.DataFrame:
    """Share of all weight and positions by assigned kind and event."""
    weight = weights(kept, weighting=weighting)
    columns = grouping(by=[Stratum.KIND, Stratum.EVENT], assignment=assignment)
    named = {name: kept[column].astype("str") for name, column in columns.items()}
    counted = pd.DataFrame({**named, "share": weight, "positions": 1})[weight > 0]
    sums = counted.groupby(["kind", "event"]).sum()
    return sums.assign(share=sums["share"] / weight.sum())


def _event_rows(sums: pd.DataFrame, *, filters: Filters) -> pd.DataFrame:
    """The table of these sums, in the order of kinds and events."""
    of_kind = sums["share"].groupby(level="kind").transform("sum")
    table = sums.assign(share_of_kind=sums["share"] / of_kind.where(of_kind > 0)).reset_index()
    for column, names in (("kind", Kind), ("event", Event)):
        table[column] = pd.Categorical(table[column], categories=[name.value for name in names])
    table = table.sort_values(["kind", "event"], ignore_index=True)
    table = table.astype({"kind": "str", "event": "str"})
    table["null_by_symmetry"] = table["event"].isin(symmetric_events(filters))
    return table[
        ["kind", "event", "share", "share_of_kind", "null", "null_by_symmetry", "positions"]
    ]


def _with_difference(tables: Mapping[str, pd.DataFrame], *, of: Sequence[str]) -> pd.DataFrame:
    """Tables of the same rows, one under the other, then how much the first differs.

    Args:
        tables: by the name of the comparison; one, or that of the other model and of the control.
        of: columns that are subtracted; there is no difference of positions.
    """
    named = {name: table.astype({"positions": "Int64"}) for name, table in tables.items()}
    if len(named) > 1:
        (other, first), (control, second) = named.items()
        apart = {column: first[column] - second[column] for column in of}
        positions = pd.Series(pd.NA, index=first.index, dtype="Int64")
        named[contrast_name(other, control)] = first.assign(**apart, positions=positions)
    parts = []
    for name, table in named.items():
        table.insert(0, COMPARISON, name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def assignment_tables(
    compared: Mapping[str, pd.DataFrame],
    *,
    filters: Filters = DEFAULT_FILTERS,
    quantities: Sequence[str] = SHOWN_FIRST,
    weighting: Weighting = DEFAULT_WEIGHTING,
    inference: Inference = DEFAULT_INFERENCE,
) -> pd.DataFrame:
    """`delta_tables` by kind under each of the three assignments, named in a first column.

    The difference of other and control takes its kinds from the mean over all models, so it is the
    same under all three. The tests of all rows are one family.

    Args:
        compared: of `comparisons`.
        filters: which are kept; their assignment is replaced by each in turn.
        quantities: as `delta_tables`.
        weighting: as `delta_tables`.
        inference: as `delta_tables`.
    """
    pairs = against_baseline(compared)
    contrasts = {name: frame for name, frame in compared.items() if name not in pairs}
    parts: list[pd.DataFrame] = []
    apart: list[pd.DataFrame] = []
    for assignment in Assignment:
        tables = partial(
            delta_tables,
            by=[Stratum.KIND],
            filters=replace(filters, assignment=assignment),
            quantities=quantities,
            weighting=weighting,
            inference=inference,
        )
        if contrasts and not apart:
            apart = [tables(contrasts)]
        table = pd.concat([tables(pairs), *apart], ignore_index=True)
        table.insert(0, "assignment", assignment.value)
        parts.append(table[table["kind"] != ALL])
    return with_family(pd.concat(parts, ignore_index=True), inference=inference)


def transitions(
    comparison: pd.DataFrame, *, weighting: Weighting = DEFAULT_WEIGHTING
) -> pd.DataFrame:
    """From the kind under the baseline to the kind under the other model.

    Columns `baseline`, `other` (kinds), `share` (weighted, of all; NaN without positions),
    `positions`; a row for every pair of kinds.
    """
    weight = weights(comparison, weighting=weighting)
    first, second = (
        comparison[kind_column(side)].map(KIND_CODES).to_numpy(dtype=np.int64)
        for side in (Assignment.BASELINE, Assignment.OTHER)
    )
    shares = transition_shares(first, second, weights=weight)
    counted = (weight > 0).astype(np.float64)
    counts = transition_shares(first, second, weights=counted) * counted.sum()
    return pd.DataFrame(
        [
            {
                "baseline": before.value,
                "other": after.value,
                "share": shares[i, j],
                "positions": round(counts[i, j]) if counted.any() else 0,
            }
            for i, before in enumerate(Kind)
            for j, after in enumerate(Kind)
        ]
    )


def transition_tables(
    compared: Mapping[str, pd.DataFrame],
    *,
    filters: Filters = DEFAULT_FILTERS,
    weighting: Weighting = DEFAULT_WEIGHTING,
) -> pd.DataFrame:
    """`transitions` of other and control, named in a first column, then the difference of shares.

    Args:
        compared: of `comparisons`.
        filters: which positions are kept.
        weighting: as `transitions`.
    """
    tables = {
        name: transitions(keep(comparison, filters=filters), weighting=weighting)
        for name, comparison in against_baseline(compared).items()
    }
    return _with_difference(tables, of=("share",))


def delta_histogram(
    comparison: pd.DataFrame,
    *,
    quantity: str,
    edges: PerPosition,
    weighting: Weighting = DEFAULT_WEIGHTING,
) -> pd.DataFrame:
    """How a quantity's deltas are spread: weighted shares between given edges.

    Columns `low`, `high`, `share`; values beyond the ends count in the first or last bin.

    Args:
        comparison: filtered.
        quantity: whose delta (or, for a pair quantity, value).
        edges: ascending, at least two.
        weighting: what each position counts.
    """
    values = comparison[delta_column(quantity)].to_numpy(dtype=np.float64)
    weight = np.where(np.isfinite(values), weights(comparison, weighting=weighting), 0.0)
    inside = np.clip(np.nan_to_num(values), edges[0], edges[-1])
    counts = np.histogram(inside, bins=edges, weights=weight)[0]
    share = counts / weight.sum() if weight.sum() else np.full(len(counts), np.nan)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": share})
