"""Least squares within positions, with errors over problems: slopes that no intercept can fake.

Source: docs/method.md, Evidence: fixed effects within positions, and the cluster-robust
sandwich of Liang and Zeger (1986).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from probing.analysis.estimates import Estimate
from probing.vocabulary import PerPosition, PositionIds, PositionMask


@dataclass(frozen=True)
class Products:
    """Weighted sums of squares and products of every position, about its own means.

    With one column of a regressor or more, x; y is what it should tell. A position whose tokens
    carry no weight, or of which there is only one, holds 0: it says nothing.

    Attributes:
        xx: shape (position, regressor, regressor).
        xy: shape (position, regressor).
        yy: shape (position,).
    """

    xx: Float[np.ndarray, "position regressor regressor"]
    xy: Float[np.ndarray, "position regressor"]
    yy: PerPosition

    def columns(self, which: list[int]) -> "Products":
        """Of some regressors alone."""
        return Products(self.xx[:, which][:, :, which], self.xy[:, which], self.yy)


def within_products(
    x: Float[np.ndarray, "position candidate regressor"],
    y: Float[np.ndarray, "position candidate"],
    *,
    weights: Float[np.ndarray, "position candidate"],
) -> Products:
    """Sums within positions, each about the position's own weighted means.

    Args:
        x: regressors; not read where the weight is 0.
        y: what they should tell; likewise.
        weights: of tokens, >= 0.
    """
    counted = weights > 0
    total = weights.sum(axis=1)
    share = np.divide(weights, total[:, None], out=np.zeros_like(weights), where=counted)
    x = np.where(counted[:, :, None], x, 0.0)
    y = np.where(counted, y, 0.0)
    x = x - np.einsum("pc,pcr->pr", share, x)[:, None, :]
    y = y - np.einsum("pc,pc->p", share, y)[:, None]
    return Products(
        xx=np.einsum("pc,pcr,pcs->prs", weights, x, x),
        xy=np.einsum("pc,pcr,pc->pr", weights, x, y),
        yy=np.einsum("pc,pc,pc->p", weights, y, y),
    )


@dataclass(frozen=True)
class Fit:
    """A regression with errors over problems.

    Attributes:
        coefficients: one per regressor; NaN where the regressors cannot be told apart.
        r_squared: share of the variation within positions that is told; NaN without any.
    """

    coefficients: tuple[Estimate, ...]
    r_squared: float


def fit(products: Products, *, weights: PerPosition, clusters: PositionIds, size: int) -> Fit:
    """Least squares over all positions, with cluster-robust (sandwich) errors.

    Args:
        products: of `within_products`.
        weights: of positions, >= 0.
        clusters: problem of every position, 0 ... size - 1.
        size: how many problems there are.
    """
    told: PositionMask = (weights > 0) & (products.yy > 0)
    xx = np.einsum("p,prs->rs", weights, products.xx)
    xy = np.einsum("p,pr->r", weights, products.xy)
    yy = float(weights @ products.yy)
    count, regressors = int(told.sum()), len(xy)
    if not count or np.linalg.matrix_rank(xx) < regressors:
        nothing = Estimate(float("nan"), np.zeros(size), count, 0)
        return Fit((nothing,) * regressors, float("nan"))
    bread = np.linalg.inv(xx)
    coefficients = bread @ xy
    residual = products.xy - np.einsum("prs,s->pr", products.xx, coefficients)
    scores = np.zeros((size, regressors))
    np.add.at(scores, clusters, weights[:, None] * residual)
    influence, carrying = scores @ bread, len(np.unique(clusters[told]))
    return Fit(
        coefficients=tuple(
            Estimate(float(value), influence[:, place], count, carrying)
            for place, value in enumerate(coefficients)
        ),
        r_squared=float(coefficients @ xy) / yy if yy > 0 else float("nan"),
    )
