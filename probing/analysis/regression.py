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

CARRIED = 0.01
"""The least that a position must hold of what is left, in means over positions, to carry it."""


class Beside:
    """Tokens of all positions in one list, and what is taken out before a slope is fitted."""

    def __init__(
        self,
        effects: Sequence[Codes],
        regressors: Sequence[Values],
        *,
        in_position: Sequence[Values] = (),
        weights: Values,
        positions: Codes,
        counted: Weighted,
    ) -> None:
        """Prepare.

        Args:
            effects: of each token the level of an effect; every level has a mean of its own.
            regressors: whose linear part is taken out too.
            in_position: the same, with a slope of every position's own.
            weights: of tokens within their position, >= 0.
            positions: of which position each token is; they have means of their own.
            counted: what positions count, and their problems.
        """
        self.counted, self.positions = counted, positions
        self.root = np.sqrt(weights * counted.weights[positions])
        alone = _levels(positions)
        parts = [alone, *(_levels(each) for each in effects)]
        # About the position's mean, or the slope and the mean would be nearly the same columns.
        parts += [sparse.diags_array(_about_mean(each, positions)) @ alone for each in in_position]
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


def _about_mean(values: Values, positions: Codes) -> Values:
    count = np.bincount(positions)
    mean = np.bincount(positions, weights=values) / np.maximum(count, 1)
    about: Values = values - mean[positions]
    return about


@dataclass(frozen=True)
class Regressor:
    """What a slope is taken on.

    Attributes:
        beside: what was taken out.
        own: what that leaves, weighted.
        carrying: positions that hold some of it: of its squares at least `CARRIED` times the mean.
        told: whether enough is left of it all.
    """

    beside: Beside
    own: Values
    carrying: Int[np.ndarray, " carrying"]
    told: bool


def regressor(beside: Beside, values: Values) -> Regressor:
    """Take out what is beside it; it tells nothing where next to nothing is left."""
    own = beside.left(values)
    left = np.bincount(beside.positions, weights=own**2)
    given = float(((beside.root * values) ** 2).sum())
    present = len(np.unique(beside.positions))
    return Regressor(
        beside,
        own,
        carrying=np.flatnonzero(left * present > CARRIED * left.sum()),
        told=float(left.sum()) > IDENTIFIED * given,
    )


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
    """The slope of y on a regressor, beside its effects: least squares, cluster-robust errors.

    Degrees of freedom are those of the effective number of problems, by the squares of the
    regressor that each holds (Carter, Schnepel and Steigerwald 2017, at independent errors).
    """
    beside, counted = on.beside, on.beside.counted
    told = on.carrying
    if not on.told:
        nothing = Estimate(float("nan"), np.zeros(counted.size), len(told), 0)
        return Fit(nothing, float("nan"))
    left = beside.left(y)
    squares = float(left @ left)
    power = float(on.own @ on.own)
    value = float(on.own @ left) / power
    problems = counted.clusters[beside.positions]
    scores = on.own * (left - value * on.own) / power
    influence, carried = (
        np.bincount(problems, weights=each, minlength=counted.size) for each in (scores, on.own**2)
    )
    return Fit(
        slope=Estimate(
            value,
            influence,
            len(told),
            len(np.unique(counted.clusters[told])),
            power**2 / float(carried @ carried),
        ),
        r_squared=value**2 * power / squares if squares > 0 else float("nan"),
    )
