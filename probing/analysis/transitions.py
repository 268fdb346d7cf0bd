"""From kind to kind: how much weight moves from each kind of the baseline to each of the other.

Source: docs/method.md, Kinds.
"""

import numpy as np
from jaxtyping import Float

from probing.vocabulary import Kind, PerPosition, PositionIds


def transition_shares(
    baseline: PositionIds, other: PositionIds, *, weights: PerPosition
) -> Float[np.ndarray, "kind kind"]:
    """Share of all weight per kind under the baseline (rows) and under the other (columns).

    Swapping the models transposes it. NaN without weight.

    Args:
        baseline: kind code of every position under the baseline.
        other: under the other model.
        weights: of positions.
    """
    size = len(Kind)
    places = baseline.astype(np.int64) * size + other
    summed = np.bincount(places, weights=weights, minlength=size * size).reshape(size, size)
    total = summed.sum()
    shares: Float[np.ndarray, "kind kind"] = np.full((size, size), np.nan)
    np.divide(summed, total, out=shares, where=total > 0)
    return shares
