"""Least squares beside fixed effects, with errors over problems: slopes that no mean can fake.

Source: docs/method.md, Evidence: fixed effects taken out as by Frisch, Waugh and Lovell, solved by
LSMR (Fong and Saunders 2011); the cluster-robust sandwich of Liang and Zeger (1986).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import lsmr

from probing.analysis.estimates import Estimate
from probing.analysis.pair import Weighted

Values = Float[np.ndarray, " token"]
Codes = Int[np.ndarray, " token"]

TOLERANCE = 1e-9
"""Of LSMR, relative."""

IDENTIFIED = 1e-6
"""The least share of a regressor's squares that must be left beside the effects."""


class Beside:
    """Tokens of all positions in one list, and what is taken out before a slope is fitted."""

    def __init__(
        self,
        effects: Sequence[Codes],
        regressors: Sequence[Values],
        *,
        weights: Values,
        positions: Codes,
        counted: Weighted,
    ) -> None:
        """Prepare.

        Args:
            effects: of each token the level of an effect; every level has a mean of its own.
            regressors: whose linear part is taken out too.
            weights: of tokens within their position, >= 0.
            positions: of which position each token is; they have means of their own.
            counted: what positions count, and their problems.
        """
        self.counted, self.positions = counted, positions
        self.root = np.sqrt(weights * counted.weights[positions])
        parts = [_levels(each) for each in (positions, *effects)]
        if regressors:
            parts.append(sparse.csr_array(np.stack(regressors, axis=1)))
        design = sparse.diags_array(self.root) @ sparse.hstack(parts).tocsr()
        size = np.sqrt(np.asarray(design.multiply(design).sum(axis=0), dtype=np.float64))
        scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        self._design = (design @ sparse.diags_array(scale)).tocsr()

    def left(self, values: Values) -> Values:
        """What the effects and regressors leave, times the root of the token's weight."""
        weighted: Values = self.root * values
        if not weighted.any():
            return weighted
        found = lsmr(self._design, weighted, atol=TOLERANCE, btol=TOLERANCE, maxiter=5000)[0]
        left: Values = weighted - self._design @ found
        return left


def _levels(codes: Codes) -> sparse.csr_array:
    """One column for every level, 1 where a token has it."""
    _, level = np.unique(codes, return_inverse=True)
    ones = np.ones(len(codes))
    return sparse.csr_array((ones, (np.arange(len(codes)), level)))


@dataclass(frozen=True)
class Regressor:
    """What a slope is taken on: the part of it that nothing beside it tells, weighted."""

    beside: Beside
    own: Values
    told: bool


def regressor(beside: Beside, values: Values) -> Regressor:
    """Take out what is beside it; it tells nothing where next to nothing is left."""
    own = beside.left(values)
    squares = float(((beside.root * values) ** 2).sum())
    return Regressor(beside, own, told=float(own @ own) > IDENTIFIED * squares)


@dataclass(frozen=True)
class Fit:
    """A slope with its error over problems.

    Attributes:
        slope: NaN where the regressor has nothing of its own.
        r_squared: share that it tells of what the effects leave; NaN without any.
    """

    slope: Estimate
    r_squared: float


def fit(on: Regressor, y: Values) -> Fit:
    """The slope of y on a regressor, beside its effects: least squares, cluster-robust errors."""
    beside, counted = on.beside, on.beside.counted
    left = beside.left(y)
    squares = float(left @ left)
    told = np.unique(beside.positions[on.own**2 > 0])
    if not (on.told and len(told)):
        nothing = Estimate(float("nan"), np.zeros(counted.size), len(told), 0)
        return Fit(nothing, float("nan"))
    power = float(on.own @ on.own)
    value = float(on.own @ left) / power
    problems = counted.clusters[beside.positions]
    scores = on.own * (left - value * on.own) / power
    influence = np.bincount(problems, weights=scores, minlength=counted.size)
    carrying = len(np.unique(counted.clusters[told]))
    return Fit(
        slope=Estimate(value, influence, len(told), carrying),
        r_squared=value**2 * power / squares if squares > 0 else float("nan"),
    )
