"""Was it a change of temperature? The best one, found on some problems and judged on others.

Source: docs/method.md, Evidence, share of T*.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from probing.analysis.estimates import Estimate
from probing.analysis.moments import kl_nats
from probing.analysis.pair import PairRows, Weighted
from probing.vocabulary import GridNodes, PerPosition

TEMPERATURES = np.union1d(np.geomspace(0.4, 2.0, 33), 1.0)
"""Where KL(other || baseline at T) is computed; in between it is a cubic spline in log T."""

FOLDS, SPLITS = 5, 4


@dataclass(frozen=True)
class TemperatureNull:
    """The baseline at T* beside the other model (method.md section 10).

    Attributes:
        temperature: T* of all problems together.
        at_end: T* lies at an end of the range that is looked at.
        share: of KL(other || baseline) that the temperature explains, out of fold: one less the
            ratio of the two sums; NaN with fewer problems than `FOLDS`.
        left: KL(other || baseline at T*) of every position, out of fold, mean over splits; NaN
            where nothing of the problem counts.
    """

    temperature: float
    at_end: bool
    share: Estimate
    left: PerPosition


def temperature_null(
    pair: PairRows, counted: Weighted, rng: np.random.Generator
) -> TemperatureNull:
    """Fit T* over problems, cross-fitted in `SPLITS` random partitions into `FOLDS`.

    Args:
        pair: the two models.
        counted: what positions count.
        rng: partitions the problems.

    Raises:
        OutsideContract: the run's tail grid does not reach over `TEMPERATURES`.
    """
    inside = np.flatnonzero(counted.weights > 0)
    present = np.unique(counted.clusters[inside])
    table = np.stack([_left_at(pair, t) for t in TEMPERATURES], axis=1)
    one = table[:, np.searchsorted(TEMPERATURES, 1.0)]
    spline = CubicSpline(np.log(TEMPERATURES), table, axis=1)
    weight = counted.weights
    enough = len(present) >= FOLDS
    left = np.where(enough & np.isin(counted.clusters, present), 0.0, np.nan)
    fold_of = np.full(counted.size, -1)
    for _ in range(SPLITS if enough else 0):
        fold_of[present] = rng.permutation(np.arange(len(present)) % FOLDS)
        fold = fold_of[counted.clusters]
        for part in range(FOLDS):
            training, out = inside[fold[inside] != part], fold == part
            best = _best(weight[training] @ table[training])
            left[out] += np.maximum(spline(best)[out], 0.0) / SPLITS
    best = _best(weight[inside] @ table[inside])
    share = _share(one, left, counted)
    low, high = np.log(TEMPERATURES[0]), np.log(TEMPERATURES[-1])
    return TemperatureNull(
        temperature=float(np.exp(best)),
        at_end=not low < best < high,
        share=share,
        left=left,
    )


def _left_at(pair: PairRows, temperature: float) -> PerPosition:
    return kl_nats(
        pair.other,
        pair.baseline,
        cross_mean=pair.baseline_over_other,
        temperature_a=1.0,
        temperature_b=temperature,
    )


def _best(sums: GridNodes) -> float:
    """Log of the temperature with the least sum, by the spline through them."""
    logs = np.log(TEMPERATURES)
    spline = CubicSpline(logs, sums)
    inside = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([logs[[0, -1]], inside[np.isfinite(inside)]])
    return float(candidates[np.argmin(spline(candidates))])


def _share(one: PerPosition, left: PerPosition, counted: Weighted) -> Estimate:
    """1 - sum(left) / sum(one), with what each problem adds."""
    measured = np.isfinite(one) & np.isfinite(left) & (counted.weights > 0)
    weight = counted.weights[measured]
    total = float(weight @ one[measured])
    if not total > 0:
        return Estimate(float("nan"), np.zeros(counted.size), int(measured.sum()), 0)
    ratio = float(weight @ left[measured]) / total
    residual = -weight * (left[measured] - ratio * one[measured]) / total
    influence = np.bincount(counted.clusters[measured], weights=residual, minlength=counted.size)
    carrying = len(np.unique(counted.clusters[measured]))
    return Estimate(1 - ratio, influence, int(measured.sum()), carrying)
