"""How far two labellings of the same positions agree, beyond chance and with an interval.

Source: Cohen (1960), A coefficient of agreement for nominal scales, Educational and Psychological
Measurement 20, 37–46; Clopper and Pearson (1934), Biometrika 26, 404–413.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats as scipy_stats

from probing.analysis.inference import ClusterInterval, cluster_interval
from probing.settings import Inference
from probing.vocabulary import PerPosition, PositionIds

EXACT = "Clopper–Pearson over problems"


@dataclass(frozen=True)
class Agreement:
    """Two labellings against each other.

    Attributes:
        share: weighted, of the positions that both give the same label, with its interval; bounds
            lie in [0, 1].
        method: how the bounds were made.
        kappa: Cohen's; NaN where both give all positions one and the same label.
    """

    share: ClusterInterval
    method: str
    kappa: float


def agreement(
    first: PositionIds,
    second: PositionIds,
    *,
    weights: PerPosition,
    clusters: PositionIds,
    settings: Inference,
) -> Agreement:
    """Share of agreement and kappa of two labellings.

    Where every problem agrees throughout, or none does anywhere, resampling finds no spread. There
    each problem is one trial, and the bounds are Clopper and Pearson's.

    Args:
        first: codes >= 0 of the labels.
        second: of the same positions.
        weights: of positions, >= 0.
        clusters: the problem of each position.
        settings: draws, level, few clusters, seed.
    """
    same = (first == second).astype(np.float64)
    rng = np.random.default_rng(settings.seed)
    found = cluster_interval(same, weights=weights, clusters=clusters, settings=settings, rng=rng)
    kappa, method = cohens_kappa(first, second, weights=weights), str(found.method)
    counted = same[weights > 0]
    if len(counted) and (counted == counted[0]).all():
        beyond = float((1 - settings.level) / 2)
        edge = float(scipy_stats.beta.ppf(beyond, found.clusters, 1))
        low, high = (edge, 1.0) if counted[0] else (0.0, 1 - edge)
        return Agreement(replace(found, low=low, high=high), EXACT, kappa)
    low, high = (float(np.clip(bound, 0, 1)) for bound in (found.low, found.high))
    return Agreement(replace(found, low=low, high=high), method, kappa)


def cohens_kappa(first: PositionIds, second: PositionIds, *, weights: PerPosition) -> float:
    """(p_o - p_e) / (1 - p_e): agreement beyond what the two labellings' own shares would give.

    p_o is the weighted share of equal labels, p_e the sum over labels of the product of their
    weighted shares under each. 1 is full agreement, 0 what chance gives; NaN where p_e = 1, or
    without weight.

    Args:
        first: codes >= 0.
        second: of the same positions.
        weights: of positions, >= 0.
    """
    total = weights.sum()
    if not total > 0:
        return float("nan")
    size = int(max(first.max(initial=0), second.max(initial=0))) + 1
    shares = [
        np.bincount(codes, weights=weights, minlength=size) / total for codes in (first, second)
    ]
    by_chance = float(shares[0] @ shares[1])
    observed = float(weights[first == second].sum() / total)
    if np.count_nonzero(shares[0] + shares[1]) == 1:
        return float("nan")
    return (observed - by_chance) / (1 - by_chance)
