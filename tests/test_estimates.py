"""Estimates that are combined: no better known than the side with the fewest problems."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from probing.analysis.estimates import Estimate, average, combined, mean_estimate

PROBLEMS, EACH = 48, 10
CLUSTERS = np.repeat(np.arange(PROBLEMS), EACH)


def of(values: np.ndarray, inside: np.ndarray) -> Estimate:
    return mean_estimate(values, weights=inside * 1.0, clusters=CLUSTERS, size=PROBLEMS)


def test_a_difference_rejects_no_more_often_than_its_smaller_side() -> None:
    rng = np.random.default_rng(0)
    inside = CLUSTERS < 3
    rejected = np.zeros(2)
    for _ in range(1500):
        values = rng.normal(size=PROBLEMS)[CLUSTERS] + 0.1 * rng.normal(size=len(CLUSTERS))
        few, many = of(values, inside), of(0.001 * values, ~inside)
        rejected += [few.p_value() < 0.05, (few - many).p_value() < 0.05]
    assert rejected[1] / 1500 < 0.08
    assert rejected[1] <= 1.3 * rejected[0]


def test_clusters_of_a_combination_are_those_of_its_smallest_part() -> None:
    values = np.random.default_rng(1).normal(size=len(CLUSTERS))
    few, many = of(values, CLUSTERS < 5), of(values, CLUSTERS >= 5)
    assert (few.clusters, many.clusters) == (5, PROBLEMS - 5)
    assert (few - many).clusters == (many - few).clusters == average([many, few]).clusters == 5
    nothing = Estimate(0.0, np.zeros(PROBLEMS), 100)
    assert (many - nothing).clusters == many.clusters, "a null that is 0 by symmetry limits nothing"
    assert combined(0.0, np.zeros(PROBLEMS), parts=[nothing]).clusters == 0


def test_a_cluster_that_moves_nothing_counts_among_those_that_carry_it() -> None:
    values = np.where(CLUSTERS == 0, 1.0, np.where(CLUSTERS == 1, -1.0, 0.0))
    found = of(values, np.ones(len(CLUSTERS), dtype=bool))
    assert (found.influence != 0).sum() == 2
    assert found.clusters == PROBLEMS


@pytest.mark.parametrize("bound", [-0.2, 0.05, 0.4])
def test_one_sided_p_values_are_students(bound: float) -> None:
    values = np.random.default_rng(2).normal(0.1, 1, size=(PROBLEMS,))[CLUSTERS]
    found = of(values, np.ones(len(CLUSTERS), dtype=bool))
    side = "less" if found.value < bound else "greater"
    plain = scipy_stats.ttest_1samp(values[::EACH], bound, alternative=side).pvalue
    assert found.one_sided(bound) == pytest.approx(plain)
