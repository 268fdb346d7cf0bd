"""Was it a change of temperature? The best one, found on some problems and judged on others.

Source: docs/method.md, Evidence, share of T*.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from probing.analysis.estimates import Estimate
from probing.analysis.moments import kl_nats
from probing.analysis.pair import PairRows, Weighted
from probing.vocabulary import GridNodes, PerPosition

TEMPERATURES = np.geomspace(0.4, 2.0, 33)
"""Where KL(other || baseline at T) is computed; between them it is interpolated in log T."""

FOLDS, SPLITS = 5, 4


@dataclass(frozen=True)
class TemperatureNull:
    """The baseline at T* beside the other model (method.md section 10).

    Attributes:
        temperature: T* of all problems together.
        at_end: T* lies at an end of the range that is looked at.
        share: of KL(other || baseline) that the temperature explains, out of fold: one less the
            ratio of the two sums.
        left: KL(other || baseline at T*) of every position, out of fold, mean over splits.
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
    table = np.stack([_left_at(pair, t) for t in TEMPERATURES], axis=1)
    one = _left_at(pair, 1.0)
    weight = counted.weights
    left = np.zeros(len(weight))
    for _ in range(SPLITS):
        fold = rng.permutation(np.arange(counted.size) % FOLDS)[counted.clusters]
        for part in range(FOLDS):
            training = inside[fold[inside] != part]
            best = _best(weight[training] @ table[training])
            out = fold == part
            left[out] += _between(table[out], best) / SPLITS
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
    """Log of the temperature with the least sum: of the parabola through the three lowest."""
    logs = np.log(TEMPERATURES)
    place = int(np.argmin(sums))
    if place in {0, len(sums) - 1}:
        return float(logs[place])
    below, here, above = sums[place - 1 : place + 2]
    bend = below - 2 * here + above
    step = float(logs[1] - logs[0])
    shift = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return float(logs[place] + shift * step)


def _between(table: Float[np.ndarray, "position temperature"], log_t: float) -> PerPosition:
    """Every position's value at one temperature, by the parabola through the nearest three."""
    logs = np.log(TEMPERATURES)
    step = float(logs[1] - logs[0])
    place = int(np.clip(np.rint((log_t - logs[0]) / step), 1, len(logs) - 2))
    u = (log_t - logs[place]) / step
    value: PerPosition = table[:, place - 1 : place + 2] @ np.array(
        [u * (u - 1) / 2, 1 - u**2, u * (u + 1) / 2]
    )
    return np.asarray(np.maximum(value, 0.0))


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
