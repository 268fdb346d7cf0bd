"""The two models in each other's place: what the role-exchange null is made of."""

import numpy as np
import pandas as pd

from probing.reporting.comparison import EXCHANGED_TOP1, kind_column
from probing.reporting.happenings import event_column, exchanged_event_column
from probing.reporting.quantities import (
    MODEL_QUANTITIES,
    PAIR_QUANTITIES,
    baseline_column,
    delta_column,
    other_column,
)
from probing.vocabulary import Assignment


def exchanged(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as it would be if the other model were the baseline.

    Values and kinds change sides, deltas their sign, events those of exchanged roles, and
    `baseline_top1_prob` its token. Pair quantities, which have no delta, are NaN. Exchanging twice
    gives back the rest.
    """
    swaps = {kind_column(Assignment.BASELINE): kind_column(Assignment.OTHER)}
    swaps |= {event_column(a): exchanged_event_column(a) for a in Assignment}
    for name in MODEL_QUANTITIES:
        if name != "baseline_top1_prob":
            swaps[baseline_column(name)] = other_column(name)
    # The new baseline's top-1 under the new baseline is the other's own under the other.
    swaps[baseline_column("baseline_top1_prob")] = EXCHANGED_TOP1[1]
    swaps[other_column("baseline_top1_prob")] = EXCHANGED_TOP1[0]
    both_ways = swaps | {second: first for first, second in swaps.items()}
    columns = {first: comparison[second] for first, second in both_ways.items()}
    for name in MODEL_QUANTITIES:
        columns[delta_column(name)] = -comparison[delta_column(name)]
    top = "baseline_top1_prob"
    columns[delta_column(top)] = columns[other_column(top)] - columns[baseline_column(top)]
    return comparison.assign(**columns, **dict.fromkeys(PAIR_QUANTITIES, np.nan))
