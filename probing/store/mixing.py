"""The distribution of a measure from the models' own: logits and the tail's mean are linear."""

import numpy as np
from jaxtyping import Float

from probing.vocabulary import CandidateLogits, TailNodes


def weighted_logits(
    logits: Float[np.ndarray, "position model candidate"], weights: Float[np.ndarray, " model"]
) -> CandidateLogits:
    """The logits of a measure; -inf where any model it is made of has -inf."""
    used = np.flatnonzero(weights)
    if len(used) == 1 and weights[used[0]] == 1:
        return np.ascontiguousarray(logits[:, used[0]])
    total = sum(weights[model] * logits[:, model].astype(np.float64) for model in used)
    return np.asarray(total, dtype=np.float32)


def weighted_tail_mean(
    means: Float[np.ndarray, "position model beta"],
    reference: Float[np.ndarray, "position measure"],
    *,
    weights: Float[np.ndarray, " model"],
    measure: int,
) -> TailNodes:
    """Over a measure's tail, the mean of the measure's own logits less its own reference.

    Args:
        means: over the measure's tail, of each model's logits less that model's reference.
        reference: of every measure; models come first. -inf where there is no tail: 0 results.
        weights: of the models in the measure.
        measure: its index.
    """
    if measure < len(weights):  # A model's own.
        return means[:, measure].astype(np.float64)
    total = np.zeros((means.shape[0], means.shape[2]), dtype=np.float64)
    own = reference[:, measure].astype(np.float64)
    tailed = np.isfinite(own)
    for model in np.flatnonzero(weights):
        shift = reference[tailed, model].astype(np.float64)[:, None]
        total[tailed] += weights[model] * (means[tailed, model] + shift)
    total[tailed] -= own[tailed, None]
    return total
