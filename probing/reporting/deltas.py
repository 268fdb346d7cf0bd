"""Aggregate deltas with intervals, nulls and tests."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from probing.analysis.excess import Excess, excess
from probing.analysis.inference import ClusterSums, ClusterTotals, PerColumn, intervals, pivots
from probing.analysis.nulls import role_exchange_of
from probing.analysis.testing import benjamini_hochberg
from probing.reporting.comparison import kind_column
from probing.reporting.exchange import changes_selection, exchanged, with_partners
from probing.reporting.filters import (
    HELD,
    STRATUM_FILTERS,
    WEIGHED_BY,
    Filters,
    Weighting,
    selected,
)
from probing.reporting.happenings import event_column
from probing.reporting.quantities import (
    QUANTITIES,
    SHOWN_FIRST,
    TOP,
    baseline_column,
    delta_column,
)
from probing.reporting.sums import ALL, GroupSums, counted_side, group_sums
from probing.settings import Inference
from probing.vocabulary import Assignment, PositionIds, PositionMask, Stratum

__all__ = [
    "ALL",
    "CANNOT_TELL",
    "CHANGED",
    "DELTA_COLUMNS",
    "PRESERVED",
    "SMALL_CHANGE",
    "delta_table",
    "grouping",
    "in_group",
    "joined",
    "with_family",
]

DEFAULT_FILTERS, DEFAULT_WEIGHTING, DEFAULT_INFERENCE = Filters(), Weighting(), Inference()

UNTESTED = frozenset({TOP})
"""Quantities whose delta is no finding by itself: this one is negative by selection."""

CHANGED, PRESERVED = "changed", "preserved"
SMALL_CHANGE, CANNOT_TELL = "small change", "cannot tell"


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

    Of the test (method.md section 7): `excess` (delta - null) with `excess_low` and `excess_high`,
    `p_value` of its being 0, `detectable` (the smallest excess found with the settings' power),
    `margin`, `preserved` (whether two one-sided tests put the excess within +-margin), and those of
    `with_family`. Pair quantities have no null, `baseline_top1_prob` is negative by selection:
    neither is tested, all of these are empty. `preserved` and `margin` are empty too where the
    settings have no margin for the quantity.

    Args:
        comparison: of `comparison_table`, all positions: the null needs those that the filters
            would keep if the models changed places. Or its `cells`, which give the same but for
            the last digits.
        by: strata to group by; `Stratum.KIND` is the kind and `Stratum.EVENT` the event by the
            filters' assignment; in `Stratum.SELECTOR` a position counts under each selector that
            chose it, so groups overlap. Groups that do not occur have no rows. Empty: only the row
            over all.
        filters: which positions are kept, and whose kind counts.
        quantities: at least one name, in the order of the rows.
        weighting: which positions carry the figures, and what each counts.
        inference: level, draws and seed of the intervals; power and margins of the tests.

    Raises:
        KeyError: an unknown quantity or stratum.
    """
    columns = [str(column) for column in by]
    groups = grouping(by=columns, assignment=filters.assignment)
    needed = _needed(comparison, quantities=quantities, filters=filters, groups=groups)
    problems = int(needed["problem_code"].max()) + 1 if len(needed) else 0
    counted = partial(counted_side, filters=filters, weighting=weighting, groups=groups)
    own = group_sums(counted(needed, quantities=quantities, exchanged=False), problems=problems)
    drawn_anew = _told_apart(quantities, filters=filters, groups=groups)
    mirror = {}
    if drawn_anew:
        side = counted(exchanged(needed), quantities=drawn_anew, exchanged=True)
        mirror = group_sums(side, problems=problems)
    total = own[(ALL,) * len(columns)].weight
    rows: list[dict[str, object]] = []
    for key, sums in own.items():
        other_side = _mirrored(sums.deltas, quantities, known=drawn_anew, mirror=mirror.get(key))
        group: dict[str, object] = dict(zip(columns, key, strict=True))
        group["share"] = sums.weight / total if total else np.nan
        summaries = _summaries(sums, other_side, quantities, inference=inference)
        rows += [{**group, **summary} for summary in summaries]
    table = pd.DataFrame(rows, columns=[*columns, *DELTA_COLUMNS])
    return with_family(table.astype({"preserved": "boolean"}), inference=inference)


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
    "excess",
    "excess_low",
    "excess_high",
    "p_value",
    "p_adjusted",
    "family",
    "detectable",
    "margin",
    "preserved",
    "reads",
    "positions",
    "carriers",
    "problems",
    "missing",
    "share",
    "method",
    "note",
)
"""Columns of a delta table after the grouping ones."""


def with_family(table: pd.DataFrame, *, inference: Inference = DEFAULT_INFERENCE) -> pd.DataFrame:
    """A delta table whose tests are one family: all rows that have a p-value.

    Columns set: `p_adjusted` (Benjamini-Hochberg), `family` (how many tests it holds; empty where
    there is none), `reads`: `CHANGED` (the adjusted p-value is at most 1 - level), `PRESERVED`,
    `SMALL_CHANGE` (both: beyond the null, and within the margin), `CANNOT_TELL` (neither), and
    empty where nothing is tested.

    Args:
        table: of `delta_table`, or several of them.
        inference: its level.
    """
    p_values = table["p_value"].to_numpy(dtype=np.float64)
    adjusted = benjamini_hochberg(p_values)
    tested = pd.Series(np.isfinite(p_values), index=table.index)
    family = pd.Series(int(tested.sum()), index=table.index, dtype="Int64").where(tested)
    # A level of 0.95 leaves 0.05000000000000004.
    told = adjusted <= round(1 - inference.level, 12)
    preserved = table["preserved"].fillna(False).to_numpy(dtype=bool)
    reads = np.select(
        [table["excess"].isna().to_numpy(), told & preserved, told, preserved],
        ["", SMALL_CHANGE, CHANGED, PRESERVED],
        default=CANNOT_TELL,
    )
    return table.assign(
        p_adjusted=adjusted, family=family, reads=pd.Series(reads, index=table.index, dtype="str")
    )


def _told_apart(
    quantities: Sequence[str], *, filters: Filters, groups: dict[str, str]
) -> list[str]:
    """Quantities whose sums in exchanged roles are not those of the deltas with the other sign.

    Where exchanging selects the same positions, only the one that looks at the baseline's token.
    """
    selecting = [*groups.values()]
    selecting += [kind_column(filters.assignment)] * bool(filters.kind)
    selecting += [event_column(filters.assignment)] * bool(filters.event)
    if changes_selection(selecting):
        return list(quantities)
    return [name for name in quantities if name == TOP]


def _mirrored(
    own: ClusterTotals, quantities: Sequence[str], *, known: Sequence[str], mirror: GroupSums | None
) -> ClusterTotals:
    """Sums of one group's deltas in exchanged roles, a column per quantity; pairs have none.

    Args:
        own: of the deltas.
        quantities: names of the columns.
        known: names of the columns of `mirror`.
        mirror: sums over the positions that exchanged roles select; None: there are none.
    """
    weight, value = np.zeros_like(own.weight), np.zeros_like(own.value)
    for place, name in enumerate(quantities):
        if name in known:
            if mirror is not None:
                column = known.index(name)
                weight[:, place] = mirror.deltas.weight[:, column]
                value[:, place] = mirror.deltas.value[:, column]
        elif QUANTITIES[name].of == "model":
            weight[:, place], value[:, place] = own.weight[:, place], -own.value[:, place]
    return ClusterTotals(weight, value)


def _needed(
    comparison: pd.DataFrame,
    *,
    quantities: Sequence[str],
    filters: Filters,
    groups: dict[str, str],
) -> pd.DataFrame:
    """What a table needs of a comparison, problems and labels as codes."""
    wanted = [*WEIGHED_BY, *groups.values()]
    wanted += [HELD] * (HELD in comparison)
    wanted += [column.value for column in STRATUM_FILTERS if getattr(filters, column.value)]
    wanted += [kind_column(filters.assignment)] * bool(filters.kind)
    wanted += [event_column(filters.assignment)] * bool(filters.event)
    for name in quantities:
        wanted.append(delta_column(name))
        wanted += [baseline_column(name)] * (QUANTITIES[name].of == "model")
    found = comparison[with_partners(wanted)]
    texts = found.select_dtypes(include=["object", "string"])
    codes = {str(column): texts[column].astype("category") for column in texts}
    problem_code = pd.factorize(comparison["problem_id"])[0].astype(np.int64)
    return found.assign(problem_code=problem_code, **codes)


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
    sums: GroupSums, mirror: ClusterTotals, quantities: Sequence[str], *, inference: Inference
) -> list[dict[str, object]]:
    """One row per quantity, over one group of positions.

    Args:
        sums: of the group.
        mirror: sums of its deltas in exchanged roles.
        quantities: names.
        inference: level, draws, seed, power, margins.
    """
    null = role_exchange_of(sums.deltas, mirror, level=inference.level)
    rows: list[dict[str, object]] = [{} for _ in quantities]
    for batch in _alike(sums.deltas.weight):
        own = sums.deltas.part(batch)
        found = pivots([own], settings=inference, rng=np.random.default_rng(inference.seed))
        positions = sums.positions[batch]
        shown = intervals(
            found, positions=positions, missing=sums.size - positions, settings=inference
        )
        for place, interval in zip(batch, shown, strict=True):
            baseline = sums.baseline[place]
            rows[place] = {
                "quantity": quantities[place],
                "baseline": baseline,
                "other": baseline + interval.estimate,
                "delta": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "null": null.value[place],
                "null_low": null.low[place],
                "null_high": null.high[place],
                "positions": interval.positions,
                "carriers": int(sums.carriers[place]),
                "problems": interval.clusters,
                "missing": interval.missing,
                "method": str(interval.method),
                "note": interval.note,
            }
        tested = np.array(
            [
                place
                for place, column in enumerate(batch)
                if quantities[column] not in UNTESTED and np.isfinite(null.value[column])
            ],
            dtype=np.int64,
        )
        if len(tested):
            beyond = excess(
                own.part(tested),
                mirror.part(batch[tested]),
                settings=inference,
                rng=np.random.default_rng(inference.seed),
                of_deltas=found.part(tested),
            )
            names = [quantities[column] for column in batch[tested]]
            margins = _margins(names, sums.baseline[batch[tested]], inference=inference)
            for column, tests in zip(batch[tested], _tests(beyond, margins), strict=True):
                rows[column] |= tests
    return rows


def _alike(weight: ClusterSums) -> list[PositionIds]:
    """Columns in batches in which problems weigh alike: they share the draws, and the work."""
    batches: list[list[int]] = []
    for column in range(weight.shape[1]):
        for batch in batches:
            if np.array_equal(weight[:, column], weight[:, batch[0]]):
                batch.append(column)
                break
        else:
            batches.append([column])
    return [np.array(batch, dtype=np.int64) for batch in batches]


def _margins(names: Sequence[str], baseline: PerColumn, *, inference: Inference) -> PerColumn:
    """Within what each quantity counts as preserved; NaN without a margin."""
    margins = inference.margins
    known = {"top1_prob": margins.top1_prob, "entropy_kept_nats": margins.entropy_kept_nats}
    return np.array(
        [
            margins.nucleus_size_share * mean if name == "nucleus_size" else known.get(name, np.nan)
            for name, mean in zip(names, baseline, strict=True)
        ]
    )


def _tests(beyond: Excess, margins: PerColumn) -> list[dict[str, object]]:
    """What a row says of its test."""
    within = beyond.within(margins)
    known = np.isfinite(margins) & np.isfinite(beyond.inner_low)
    return [
        {
            "excess": beyond.value[column],
            "excess_low": beyond.low[column],
            "excess_high": beyond.high[column],
            "p_value": beyond.p_value[column],
            "detectable": beyond.detectable[column],
            "margin": margins[column],
            "preserved": bool(within[column]) if known[column] else pd.NA,
        }
        for column in range(len(margins))
    ]
