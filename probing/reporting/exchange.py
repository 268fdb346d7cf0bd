"""The two models in each other's place: what the role-exchange null is made of."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from probing.reporting.columns import with_columns
from probing.reporting.comparison import EXCHANGED_TOP1, kind_column
from probing.reporting.happenings import event_column, exchanged_event_column
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    TOP,
    baseline_column,
    delta_column,
    other_column,
)
from probing.vocabulary import Assignment


def _partners() -> dict[str, str]:
    """Columns that change places, each with the other."""
    swaps = {kind_column(Assignment.BASELINE): kind_column(Assignment.OTHER)}
    swaps |= {event_column(a): exchanged_event_column(a) for a in Assignment}
    for name in MODEL_QUANTITIES:
        if name != TOP:
            swaps[baseline_column(name)] = other_column(name)
    # The new baseline's top-1 under the new baseline is the other's own under the other.
    swaps[baseline_column(TOP)] = EXCHANGED_TOP1[1]
    swaps[other_column(TOP)] = EXCHANGED_TOP1[0]
    return swaps | {second: first for first, second in swaps.items()}


def with_partners(columns: Iterable[str]) -> list[str]:
    """These columns of a comparison and all that `exchanged` makes them of, each once."""
    wanted = list(columns)
    if delta_column(TOP) in wanted:
        wanted += [baseline_column(TOP), other_column(TOP)]
    partners = _partners()
    return list(dict.fromkeys([*wanted, *(partners[c] for c in wanted if c in partners)]))


def changes_selection(columns: Iterable[str]) -> bool:
    """Whether exchanging the models changes any of these columns of a comparison."""
    return not _partners().keys().isdisjoint(columns)


def exchanged(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as it would be if the other model were the baseline.

    Values and kinds change sides, deltas their sign, events those of exchanged roles, and
    `baseline_top1_prob` its token. Pair quantities, which have no delta, are NaN. Exchanging twice
    gives back the rest.

    Args:
        comparison: of `comparison_table`, or some of its columns, those of `with_partners`.
    """
    columns = {
        first: comparison[second] for first, second in _partners().items() if first in comparison
    }
    for name in MODEL_QUANTITIES:
        if delta_column(name) in comparison:
            columns[delta_column(name)] = -comparison[delta_column(name)]
    if delta_column(TOP) in comparison:
        columns[delta_column(TOP)] = columns[other_column(TOP)] - columns[baseline_column(TOP)]
    nothing = dict.fromkeys([name for name in PAIR_QUANTITIES if name in comparison], np.nan)
    return with_columns(comparison, columns | nothing)
