"""The positions chosen in one carrier, and why."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt


@dataclass(frozen=True)
class SelectedPositions:
    """Chosen response positions of one carrier, ascending.

    Attributes:
        position: i of y_i, the response token predicted there; 0-based.
        selectors: bitmask; bit b is selector `names[b]` of `selector_names(lexicon)`.
        inclusion: probability that interval or random (or all) chooses the position,
            `1 - (1 - 1/n)(1 - m/L)`; the same for every position of a carrier; 0 when both are off.
        phase: index into `list(Phase)`.
    """

    position: Int[np.ndarray, " position"]
    selectors: UInt[np.ndarray, " position"]
    inclusion: Float[np.ndarray, " position"]
    phase: UInt[np.ndarray, " position"]
