"""What the store knows of one distribution per position: exact candidates and a tempered tail."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from probing.vocabulary import CandidateIds, CandidateLogits, PerPosition, PositionIds, TailNodes

Betas: TypeAlias = Float[np.ndarray, " beta"]
"""Inverse temperatures: the nodes of a tail grid, ascending."""

BLOCK_CELLS = 1 << 17
"""Candidates of all rows worked on at a time: they stay in the processor's cache."""


@dataclass(frozen=True)
class Tail:
    """The complement of the candidates, for one distribution per position (method.md section 3).

    With x the distribution's logits, v running over the ids outside the candidates that have a
    finite logit, and beta the nodes of the grid:

    - `reference[i]   = max_v x_v`, float32; -inf where nothing lies outside (V <= candidates);
    - `log_mass[i, n] = log sum_v exp(beta_n (x_v - reference))`, >= 0 (nats);
    - `mean[i, n]     = E_n[x_v - reference]` under the tail tempered with beta_n (logit units);
    - `square[i, n]   = E_n[(x_v - reference)^2]`.

    Rows with nothing outside hold 0 in all three.
    """

    reference: PerPosition
    log_mass: TailNodes
    mean: TailNodes
    square: TailNodes


@dataclass(frozen=True)
class Distributions:
    """One distribution per position: of a model, or of the mean of several models' logits.

    Attributes:
        ids: candidate ids, `PADDING_ID` where unused.
        logits: this distribution's logit of every candidate, float32; -inf where unused. Exact.
            The order of candidates is the store's (best rank over the models), the same for
            every distribution of a run, so columns of two distributions align.
        tail: the rest of the vocabulary.
        betas: the nodes of the tail grid, inverse temperatures, shape (beta,).
        is_mean: the mean of several models' logits. Its own leading ids may lie outside the
            candidates in some rows, which then hold NaN ("not measured") where a model's
            distribution would refuse the question.

    Candidates with `logits >= tail.reference` are this distribution's own top ones, exactly;
    ranks of the others are only bounded below.
    """

    ids: CandidateIds
    logits: CandidateLogits
    tail: Tail
    betas: Betas
    is_mean: bool = False

    def part(self, rows: slice | PositionIds) -> "Distributions":
        """The same for some positions; a range of them is not copied."""
        tail = Tail(
            reference=self.tail.reference[rows],
            log_mass=self.tail.log_mass[rows],
            mean=self.tail.mean[rows],
            square=self.tail.square[rows],
        )
        return replace(self, ids=self.ids[rows], logits=self.logits[rows], tail=tail)

    def blocks(self) -> Iterator[slice]:
        """Ranges of positions that cover all rows, in order; one empty range if there are none."""
        rows, width = self.ids.shape
        step = max(1, BLOCK_CELLS // max(1, width))
        for start in range(0, max(rows, 1), step):
            yield slice(start, start + step)
