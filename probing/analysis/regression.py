"""Least squares within positions, with errors over problems: slopes that no intercept can fake.

Source: docs/method.md, Evidence: fixed effects within positions, and the cluster-robust
sandwich of Liang and Zeger (1986), over problems and tokens at once where tokens are given.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from probing.analysis.estimates import Estimate
from probing.analysis.pair import Weighted

Regressors = Float[np.ndarray, "token regressor"]
Tokens = Float[np.ndarray, " token"]
Places = Int[np.ndarray, " token"]

IDENTIFIED = 1e-6
"""How far a coefficient may be told by the others before it is told by nothing of its own."""


@dataclass(frozen=True)
class Within:
    """Tokens of all positions in one list, x and y about their weighted means in the position.

    A position of one token says nothing.

    Attributes:
        x: regressors.
        y: what they should tell.
        weights: of tokens, > 0.
        positions: of which position each is.
    """

    x: Regressors
    y: Tokens
    weights: Tokens
    positions: Places

    @property
    def y_squares(self) -> Float[np.ndarray, " token"]:
        """Weighted squares of `y`."""
        squares: Tokens = self.weights * self.y**2
        return squares


def within(x: Regressors, y: Tokens, *, weights: Tokens, positions: Places) -> Within:
    """About the position's own weighted means.

    Args:
        x: regressors.
        y: what they should tell.
        weights: of tokens, > 0.
        positions: of which position each token is.
    """
    total = np.bincount(positions, weights=weights)
    share = weights / total[positions]

    def centred(values: Tokens) -> Tokens:
        mean = np.bincount(positions, weights=share * values, minlength=len(total))
        left: Tokens = values - mean[positions]
        return left

    columns = [centred(x[:, place]) for place in range(x.shape[1])]
    return Within(
        np.stack(columns, axis=1) if columns else np.zeros((len(y), 0)),
        centred(y),
        weights,
        positions,
    )


@dataclass(frozen=True)
class Fit:
    """A regression with errors over problems.

    Attributes:
        coefficients: one per regressor that is wanted; NaN where the others tell all that it could.
        values: of all regressors, plain numbers; where several solutions fit as well, the shortest.
        r_squared: share of the variation within positions that is told; NaN without any.
    """

    coefficients: tuple[Estimate, ...]
    values: Float[np.ndarray, " regressor"]
    r_squared: float


def fit(
    rows: Within,
    counted: Weighted,
    *,
    tokens: Places | None = None,
    vocabulary: int = 0,
    wanted: int | None = None,
) -> Fit:
    """Least squares over all positions, with cluster-robust (sandwich) errors.

    Args:
        rows: of `within`.
        counted: what positions count, and their problems.
        tokens: id of each token; where given, errors count tokens as clusters too.
        vocabulary: above every such id.
        wanted: of how many of the first regressors to give the coefficients; None: of all.
    """
    weights = counted.weights[rows.positions]
    problems = counted.clusters[rows.positions]
    squares = weights * rows.y_squares
    told = np.unique(rows.positions[squares > 0])
    count, regressors = len(told), rows.x.shape[1]
    weighted = rows.x * (weights * rows.weights)[:, None]
    xx, xy = weighted.T @ rows.x, weighted.T @ rows.y
    inverse, known = _inverse(xx)
    values = inverse @ xy
    scores = (weighted * (rows.y - rows.x @ values)[:, None]) @ inverse
    carrying = len(np.unique(counted.clusters[told]))
    found = []
    for column in range(regressors if wanted is None else wanted):
        if not (count and known[column]):
            found.append(Estimate(float("nan"), np.zeros(counted.size), count, 0))
            continue
        score = scores[:, column]
        influence = np.bincount(problems, weights=score, minlength=counted.size)
        one = Estimate(float(values[column]), influence, count, carrying)
        if tokens is not None:
            cells = sparse.coo_array(
                (score, (problems, tokens)), shape=(counted.size, vocabulary)
            ).tocsr()
            telling = (weighted @ inverse[:, column]) * (rows.x @ inverse[:, column])
            one = replace(one, cells=cells, tokens=_effective(np.bincount(tokens, telling)))
        found.append(one)
    total = float(squares.sum())
    return Fit(
        coefficients=tuple(found),
        values=values,
        r_squared=float(values @ xy) / total if total > 0 and count else float("nan"),
    )


def _effective(parts: Float[np.ndarray, " token"]) -> float:
    """As how many equal parts these count (the inverse Simpson index)."""
    return float(parts.sum() ** 2 / (parts**2).sum())


def _inverse(
    xx: Float[np.ndarray, "regressor regressor"],
) -> tuple[Float[np.ndarray, "regressor regressor"], np.ndarray]:
    """Of sums of squares and products, and which regressors have something of their own to tell."""
    size = np.sqrt(np.diag(xx))
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    correlations = xx * np.outer(scale, scale)
    pseudo = np.linalg.pinv(correlations, rcond=1e-10, hermitian=True)
    own = np.diag(pseudo @ correlations)
    return pseudo * np.outer(scale, scale), np.abs(own - 1) < IDENTIFIED
