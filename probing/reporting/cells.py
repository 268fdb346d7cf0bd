"""Positions that no table tells apart, held together: filters then look at cells, not positions.

A cell is the positions of one carrier with the same kinds and the same way of being chosen, at
which the same quantities are measured. Means over it are exact, and all that a delta table needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from probing.analysis.passes import sums_by
from probing.reporting.comparison import EXCHANGED_TOP1, kind_column
from probing.reporting.filters import FILTERED, HELD, WEIGHED_BY, Filters
from probing.reporting.happenings import event_column, exchanged_event_column
from probing.reporting.places import CARRIER_COLUMNS
from probing.reporting.quantities import (
    QUANTITIES,
    TOP,
    baseline_column,
    delta_column,
    other_column,
)
from probing.vocabulary import Assignment, PositionIds, PositionMask, Stratum

OF_CARRIERS = (
    *CARRIER_COLUMNS,
    *(
        stratum.value
        for stratum in (
            Stratum.LENGTH,
            Stratum.CORRECT,
            Stratum.GENERATOR,
            Stratum.RIGHT,
            Stratum.SUBJECT,
            Stratum.DIFFICULTY,
            Stratum.SOURCE,
            Stratum.SAMPLING_TEMPERATURE,
        )
    ),
)
"""Columns of a comparison that every position of a carrier has alike."""

LARGEST_CODE = 1 << 62


def columns_apart(filters: Filters, grouped: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns that cells must have alike for these filters and groupings: `by` of `cells`.

    The same whatever the labels, so that cells serve until another stratum is looked at.
    """
    used = [stratum.value for stratum in FILTERED if getattr(filters, stratum.value)]
    apart: list[str] = []
    for stratum in dict.fromkeys([*used, *grouped]):
        if stratum == Stratum.EVENT:
            for each in Assignment:
                apart += [event_column(each), exchanged_event_column(each)]
        elif stratum not in {*OF_CARRIERS, Stratum.KIND, Stratum.SELECTOR}:
            apart.append(str(stratum))
    return tuple(sorted(apart))


@dataclass(frozen=True)
class Division:
    """Which positions a cell holds, as far as that does not hang on what is measured.

    Attributes:
        cell: of every position, numbered in the order in which they first occur.
        labels: what its positions have alike, a row a cell.
    """

    cell: PositionIds
    labels: pd.DataFrame


def division(comparison: pd.DataFrame, *, by: Sequence[str] = ()) -> Division:
    """The cells of a comparison but for what is measured; values may be missing.

    Args:
        comparison: as `cells`.
        by: as `cells`.
    """
    apart = [*WEIGHED_BY, *(kind_column(each) for each in Assignment), *by]
    apart = [name for name in dict.fromkeys(apart) if name not in OF_CARRIERS]
    code = np.zeros(len(comparison), dtype=np.int64)
    for name in apart:
        code = _with(code, _codes(comparison[name]))
    labels = [name for name in dict.fromkeys([*OF_CARRIERS, *apart]) if name in comparison]
    cell, first = _numbered(code)
    return Division(
        cell, pd.DataFrame({name: comparison[name].iloc[first].array for name in labels})
    )


def cells(
    comparison: pd.DataFrame,
    *,
    quantities: Sequence[str],
    by: Sequence[str] = (),
    divided: Division | None = None,
) -> pd.DataFrame:
    """The cells of a comparison, in the order in which they first occur.

    Columns: those of `OF_CARRIERS` and `WEIGHED_BY`, the kinds by the three assignments, those of
    `by`, `HELD` (how many positions the cell holds), and the means of the quantities' values.

    Args:
        comparison: of `comparison_table`, all positions.
        quantities: whose values are wanted; the comparison has them.
        by: further columns that positions of a cell must have alike: what a filter or a grouping
            looks at.
        divided: `division` by these columns, if it is known.
    """
    divided = divided or division(comparison, by=by)
    cell, labels = divided.cell, divided.labels
    measured = _measured(comparison, quantities)
    if measured is not None:
        cell, first = _numbered(_with(cell, measured))
        labels = labels.take(divided.cell[first]).reset_index(drop=True)
    size = np.bincount(cell, minlength=len(labels))
    return labels.assign(
        **{HELD: size},
        **{
            name: sums_by(cell, comparison[name].to_numpy(), groups=len(labels)) / size
            for name in value_names(quantities)
            if name in comparison
        },
    )


def _numbered(code: PositionIds) -> tuple[PositionIds, Int[np.ndarray, " cell"]]:
    """Codes as numbers in the order in which they first occur, and where each does."""
    number, found = pd.factorize(code)
    first = np.empty(len(found), dtype=np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    return number, first


def value_names(quantities: Sequence[str]) -> list[str]:
    """The columns of a comparison that hold the values of these quantities."""
    names = list(EXCHANGED_TOP1) if TOP in quantities else []
    for name in quantities:
        names.append(delta_column(name))
        if QUANTITIES[name].of == "model":
            names += [baseline_column(name), other_column(name)]
    return names


def _measured(comparison: pd.DataFrame, quantities: Sequence[str]) -> PositionIds | None:
    """A code for which of the quantities are measured; None where all are, everywhere."""
    code = None
    for name in quantities:
        measured: PositionMask = np.isfinite(comparison[delta_column(name)].to_numpy())
        if not measured.all():
            code = measured.astype(np.int64) if code is None else code * 2 + measured
    return code


def _codes(values: pd.Series) -> PositionIds:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(dtype=np.int64) + 1
    codes: PositionIds = pd.factorize(values)[0].astype(np.int64)
    return codes


def _with(code: PositionIds, further: PositionIds) -> PositionIds:
    """One code for both; told anew from 0 where the product would be too large."""
    size = int(further.max(initial=0)) + 1
    if (int(code.max(initial=0)) + 1) * size >= LARGEST_CODE:
        code = pd.factorize(code)[0].astype(np.int64)
    found: PositionIds = code * size + further
    return found
