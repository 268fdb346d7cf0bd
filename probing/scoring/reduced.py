"""What is kept of rows of logits, and what is asked of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from probing.store.unit import Measures
from probing.vocabulary import PADDING_ID

CANDIDATE_FILL = {"candidate_id": PADDING_ID, "logit": -np.inf}
"""Arrays with a candidate axis, and what fills it up."""


@dataclass(frozen=True)
class RowSettings:
    """What is the same for every block of a run.

    Attributes:
        top_k: K.
        watched: ids that are always candidates, ascending.
        temperatures: at which divergences are exact.
        betas: nodes of the tail grid.
        measures: combinations of models whose tails are stored.
    """

    top_k: int
    watched: Int[np.ndarray, " watched"]
    temperatures: tuple[float, ...]
    betas: Float[np.ndarray, " beta"]
    measures: Measures


class RowArrays(NamedTuple):
    """The model-dependent arrays of `store.unit.UnitArrays`, under the same names.

    Sums keep the precision they were made in; the store rounds them.
    """

    candidate_id: Int[np.ndarray, "position candidate"]
    logit: Float[np.ndarray, "position model candidate"]
    realised_logit: Float[np.ndarray, "position model"]
    realised_rank: Int[np.ndarray, "position model"]
    masked: Int[np.ndarray, "position model"]
    log_z: Float[np.ndarray, "position model temperature"]
    kl_baseline_other: Float[np.ndarray, "position pair temperature"]
    kl_other_baseline: Float[np.ndarray, "position pair temperature"]
    js: Float[np.ndarray, "position pair temperature"]
    tail_reference: Float[np.ndarray, "position measure"]
    tail_log_mass: Float[np.ndarray, "position measure beta"]
    tail_mean: Float[np.ndarray, "position measure model beta"]
    tail_square: Float[np.ndarray, "position measure beta"]


def join_rows(parts: Sequence[RowArrays]) -> RowArrays:
    """The rows of all parts, one after the other; the candidate axis is as wide as the widest."""
    width = max(part.candidate_id.shape[1] for part in parts)
    joined = {}
    for name in RowArrays._fields:
        arrays = [getattr(part, name) for part in parts]
        if name in CANDIDATE_FILL:
            arrays = [_widened(each, width, fill=CANDIDATE_FILL[name]) for each in arrays]
        joined[name] = np.concatenate(arrays)
    return RowArrays(**joined)


def _widened(values: np.ndarray, width: int, *, fill: float | int) -> np.ndarray:
    padding = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
    return np.pad(values, padding, constant_values=fill)
