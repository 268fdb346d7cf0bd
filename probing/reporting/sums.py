"""What each problem adds to the deltas of every group: all that intervals and nulls need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from probing.analysis.deltas import per_carrier_weights
from probing.analysis.inference import ClusterTotals, Columns, cluster_totals
from probing.reporting.filters import Average, Filters, Weighting, held, keep, weights
from probing.reporting.quantities import QUANTITIES, baseline_column, delta_column
from probing.vocabulary import PerPosition, PositionIds, PositionMask, Stratum

ALL = "all"
"""What stands in the grouping columns of the row over all groups."""


@dataclass(frozen=True)
class Side:
    """The positions that count, with the models' roles as they are or exchanged.

    Attributes:
        values: deltas, one column per quantity; NaN = not measured.
        baseline: the baseline's values; no columns on the exchanged side.
        weight: by the whole weighting.
        each: of the position alone, as if positions counted alike.
        sampling: the probability that the position's carrier was sampled.
        problems: codes.
        carriers: codes.
        held: how many positions each row stands for.
        groups: the grouping columns.
        average: over what means are taken.
    """

    values: Columns
    baseline: Float[np.ndarray, "position held"]
    weight: PerPosition
    each: PerPosition
    sampling: PerPosition
    problems: PositionIds
    carriers: PositionIds
    held: PositionIds
    groups: pd.DataFrame
    average: Average


@dataclass(frozen=True)
class Groups:
    """Which positions make up which group.

    Attributes:
        keys: of every group, one label per grouping column.
        rows: positions; None takes all in their order. One that is in two groups is here twice.
        codes: the group of each of `rows`.
    """

    keys: list[tuple[str, ...]]
    rows: PositionIds | None
    codes: PositionIds


@dataclass(frozen=True)
class GroupSums:
    """Sums of one group over its positions.

    Attributes:
        deltas: per problem, shape (problem, quantity).
        baseline: weighted means of the baseline's values where the delta is measured.
        weight: of all its positions.
        size: how many positions it has.
        positions: measured ones per quantity.
        carriers: with a measured position, per quantity.
    """

    deltas: ClusterTotals
    baseline: Float[np.ndarray, " held"]
    weight: float
    size: int
    positions: Int[np.ndarray, " quantity"]
    carriers: Int[np.ndarray, " quantity"]


def counted_side(
    comparison: pd.DataFrame,
    *,
    quantities: Sequence[str],
    filters: Filters,
    weighting: Weighting,
    groups: dict[str, str],
    exchanged: bool,
) -> Side:
    """The positions of one side that pass the filters and weigh something.

    Args:
        comparison: with codes of problems in `problem_code`.
        quantities: columns of the values.
        filters: which positions are kept.
        weighting: what each counts.
        groups: by stratum, the column that holds it.
        exchanged: whether roles are; the baseline's values are then left out.
    """
    kept = keep(comparison, filters=filters)
    weight = weights(kept, weighting=weighting)
    here = weight > 0
    if not here.all():
        kept, weight = kept[here], weight[here]
    each = weight
    if weighting.average is Average.CARRIER:
        each = weights(kept, weighting=Weighting(selector=weighting.selector))
    names = [] if exchanged else list(quantities)
    of_models = {name: baseline_column(name) for name in names if QUANTITIES[name].of == "model"}
    return Side(
        values=_columns(kept, [delta_column(name) for name in quantities]),
        baseline=_columns(kept, [of_models.get(name, "") for name in names]),
        weight=weight,
        each=each,
        sampling=kept["sampling_probability"].to_numpy(dtype=np.float64),
        problems=kept["problem_code"].to_numpy(dtype=np.int64),
        carriers=kept["carrier"].to_numpy(dtype=np.int64),
        held=held(kept),
        groups=kept[list(groups.values())],
        average=weighting.average,
    )


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> Columns:
    """Columns side by side, each one piece of memory; NaN where there is no such column."""
    found: Columns = np.full((len(frame), len(names)), np.nan, order="F")
    for place, name in enumerate(names):
        if name:
            found[:, place] = frame[name].to_numpy(dtype=np.float64)
    return found


def all_groups(side: Side) -> list[Groups]:
    """All positions as one group, then the groups that occur."""
    columns = list(side.groups.columns)
    everything = np.zeros(len(side.groups), dtype=np.int64)
    found = [Groups([(ALL,) * len(columns)], None, everything)]
    return [*found, _occurring(side.groups)] if columns else found


def _occurring(groups: pd.DataFrame) -> Groups:
    """The groups that occur, in the order of their labels.

    A position is in the group of every selector that chose it.
    """
    single, rows = groups.reset_index(drop=True), None
    if Stratum.SELECTOR in groups:
        rows, names = _each_selector(groups[Stratum.SELECTOR])
        single = single.iloc[rows].assign(**{Stratum.SELECTOR: names}).reset_index(drop=True)
    grouped = single.groupby(list(groups.columns), observed=True)
    codes = grouped.ngroup().fillna(-1).to_numpy(dtype=np.int64)
    keys = [key if isinstance(key, tuple) else (key,) for key in grouped.size().index]
    inside = codes >= 0
    if not inside.all():
        rows = np.flatnonzero(inside) if rows is None else rows[inside]
        codes = codes[inside]
    return Groups([tuple(str(part) for part in key) for key in keys], rows, codes)


def _each_selector(texts: pd.Series) -> tuple[PositionIds, "pd.Series"]:
    """Positions, once for every selector in their text, and that selector."""
    codes, found = pd.factorize(texts.astype("str"))
    names = [str(text).split() for text in found]
    counts = np.array([len(own) for own in names], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    rows = np.repeat(np.arange(len(codes)), counts[codes])
    flat = np.array([name for own in names for name in own], dtype=object)
    repeats = counts[codes]
    first = np.repeat(np.cumsum(repeats) - repeats, repeats)
    place = starts[codes[rows]] + np.arange(len(rows)) - first
    return rows, pd.Series(flat[place], index=rows, dtype="str")


def group_sums(side: Side, *, problems: int) -> dict[tuple[str, ...], GroupSums]:
    """Sums of all positions together and of every group, by what identifies it.

    Args:
        side: the positions.
        problems: how many problem codes there are.
    """
    found: dict[tuple[str, ...], GroupSums] = {}
    for groups in all_groups(side):
        found |= _sums(side, groups, problems=problems)
    return found


def _sums(side: Side, groups: Groups, *, problems: int) -> dict[tuple[str, ...], GroupSums]:
    rows: PositionIds | slice = slice(None) if groups.rows is None else groups.rows
    values, codes = side.values[rows], groups.codes
    own_weights = _weights(side, rows, codes, values)
    # Only the problems that occur in a group have a cell: there may be many of both.
    cells = codes * problems + side.problems[rows]
    seen = np.bincount(cells, minlength=len(groups.keys) * problems) > 0
    present, place = np.flatnonzero(seen), np.cumsum(seen) - 1
    index, size = place[cells], len(present)
    totals = cluster_totals(values, own_weights, index, size=size)
    count = len(groups.keys)
    held_here = side.held[rows]
    counts = _counts(values, side.carriers[rows], held_here, codes, count)
    weight = np.bincount(codes, weights=side.weight[rows], minlength=count)
    sizes = np.bincount(codes, weights=held_here, minlength=count)
    means = _means(side.baseline[rows], values, own_weights, codes=codes, groups=count)
    ends = np.searchsorted(present, np.arange(count + 1) * problems)
    found = {}
    for code, key in enumerate(groups.keys):
        inside = slice(ends[code], ends[code + 1])
        where = present[inside] - code * problems
        deltas = _spread(ClusterTotals(*(part[inside] for part in totals)), where, problems)
        found[key] = GroupSums(
            deltas=deltas,
            baseline=means[code],
            weight=float(weight[code]),
            size=int(sizes[code]),
            positions=counts[0][code],
            carriers=counts[1][code],
        )
    return found


def _means(
    baseline: Float[np.ndarray, "position held"],
    values: Columns,
    weights: Columns,
    *,
    codes: PositionIds,
    groups: int,
) -> Float[np.ndarray, "group held"]:
    """Weighted means of each group over the positions where the delta is measured."""
    found = np.full((groups, baseline.shape[1]), np.nan)
    for column in range(baseline.shape[1]):
        measured = np.isfinite(values[:, column])
        here: PositionMask | slice = slice(None) if measured.all() else measured
        own, weight = baseline[here, column], weights[here, column]
        if len(own) and np.isfinite(own[0]):
            total = np.bincount(codes[here], weights=weight, minlength=groups)
            summed = np.bincount(codes[here], weights=weight * own, minlength=groups)
            np.divide(summed, total, out=found[:, column], where=total > 0)
    return found


def _spread(totals: ClusterTotals, where: PositionIds, size: int) -> ClusterTotals:
    """The same sums with a row for every problem."""
    parts = [np.zeros((size, part.shape[1])) for part in totals]
    for whole, part in zip(parts, totals, strict=True):
        whole[where] = part
    return ClusterTotals(*parts)


def _weights(
    side: Side, rows: "PositionIds | slice", codes: PositionIds, values: Columns
) -> Columns:
    """Weights of the positions of each group and quantity.

    Where every carrier counts alike, it does so over its *measured* positions of the group.
    """
    each = side.each[rows]
    if side.average is Average.POSITION:
        return np.broadcast_to(each[:, None], values.shape)
    sampling, carriers = side.sampling[rows], side.carriers[rows]
    owners = codes * (int(carriers.max(initial=0)) + 1) + carriers
    found: Columns = np.zeros(values.shape, order="F")
    whole = per_carrier_weights(each * sampling, owners) / sampling
    for column in range(values.shape[1]):
        here = np.isfinite(values[:, column])
        if here.all():
            found[:, column] = whole
        else:
            inverse = (each * sampling)[here]
            found[here, column] = per_carrier_weights(inverse, owners[here]) / sampling[here]
    return found


def _counts(
    values: Columns,
    carriers: PositionIds,
    held_here: PositionIds,
    codes: PositionIds,
    groups: int,
) -> tuple[Int[np.ndarray, "group quantity"], Int[np.ndarray, "group quantity"]]:
    """Measured positions, and carriers that have any, of every group and quantity."""
    each = int(carriers.max(initial=0)) + 1
    owners = codes * each + carriers
    whole: tuple[np.ndarray, np.ndarray] | None = None
    positions, owned = [], []
    for column in values.T:
        here = np.isfinite(column)
        if here.all() and whole is not None:
            own = whole
        else:
            inside = slice(None) if here.all() else here
            seen = np.bincount(owners[inside], minlength=groups * each) > 0
            own = (
                np.bincount(codes[inside], weights=held_here[inside], minlength=groups).astype(
                    np.int64
                ),
                seen.reshape(groups, each).sum(axis=1),
            )
            whole = own if here.all() else whole
        positions.append(own[0])
        owned.append(own[1])
    return np.stack(positions, axis=1), np.stack(owned, axis=1)
