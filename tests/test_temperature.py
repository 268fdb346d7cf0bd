"""One temperature for all: fitted on some problems and judged on others, against slow fits."""

import numpy as np
import pytest
from rows import make_rows
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from test_evidence import counted_of, pair_of, real_like

from probing.analysis.pair import Weighted
from probing.analysis.temperature import FOLDS, SPLITS, TEMPERATURES, temperature_null

ROWS, PROBLEMS = 36, 7


def left_at(a: np.ndarray, b: np.ndarray, log_t: float) -> np.ndarray:
    """KL(b || a at T) of every row."""
    log_a = log_softmax(a.astype(np.float64) / np.exp(log_t), axis=1)
    log_b = log_softmax(b.astype(np.float64), axis=1)
    return (np.exp(log_b) * (log_b - log_a)).sum(axis=1)


def best_of(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float:
    ends = np.log(TEMPERATURES[[0, -1]])
    found = minimize_scalar(
        lambda log_t: weights @ left_at(a, b, log_t), bounds=ends, method="bounded"
    )
    return float(found.x)


def moved(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Weighted]:
    """Every problem at a temperature of its own, with noise; some positions count nothing."""
    a = rng.normal(scale=2, size=(ROWS, 40)).astype(np.float32)
    counted = Weighted(
        rng.gamma(1.0, size=ROWS) * (rng.random(ROWS) > 0.1), np.arange(ROWS) % PROBLEMS, PROBLEMS
    )
    temperature = rng.uniform(0.6, 1.6, size=PROBLEMS)[counted.clusters]
    b = a / temperature[:, None] + 0.2 * rng.normal(size=a.shape)
    return a, b.astype(np.float32), counted


def test_a_problem_is_judged_by_the_temperature_of_other_problems() -> None:
    a, b, counted = moved(np.random.default_rng(3))
    found = temperature_null(pair_of(a, b), counted, np.random.default_rng(5))
    assert np.log(found.temperature) == pytest.approx(best_of(a, b, counted.weights), abs=2e-3)
    rng, left = np.random.default_rng(5), np.zeros(ROWS)
    for _ in range(SPLITS):
        fold_of_problem = rng.permutation(np.arange(PROBLEMS) % FOLDS)
        for part in range(FOLDS):
            out = fold_of_problem[counted.clusters] == part
            best = best_of(a[~out], b[~out], counted.weights[~out])
            left[out] += left_at(a[out], b[out], best) / SPLITS
    np.testing.assert_allclose(found.left, left, atol=2e-3)
    one = left_at(a, b, 0.0)
    share = 1 - counted.weights @ left / (counted.weights @ one)
    assert found.share.value == pytest.approx(share, abs=3e-3)


def test_a_problem_moves_the_share_as_its_weight_does() -> None:
    a, b, counted = moved(np.random.default_rng(0))
    found = temperature_null(pair_of(a, b), counted, np.random.default_rng(1))
    one, step = left_at(a, b, 0.0), 1e-6
    for problem in range(PROBLEMS):
        shares = [
            1 - (weights @ found.left) / (weights @ one)
            for weights in (
                np.where(counted.clusters == problem, 1 + each, 1.0) * counted.weights
                for each in (-step, step)
            )
        ]
        slope = (shares[1] - shares[0]) / (2 * step)
        assert found.share.influence[problem] == pytest.approx(slope, abs=1e-6)
    assert found.share.clusters == PROBLEMS


@pytest.mark.parametrize(("divisor", "end"), [(4.0, TEMPERATURES[-1]), (0.2, TEMPERATURES[0])])
def test_a_temperature_out_of_range_is_said_to_be_at_its_end(divisor: float, end: float) -> None:
    a = real_like(10, vocabulary=200)
    pair = pair_of(a, (a / divisor).astype(np.float32))
    found = temperature_null(pair, counted_of(10, problems=5), np.random.default_rng(0))
    assert found.at_end
    assert found.temperature == pytest.approx(end)


def test_exchanging_a_pair_is_pairing_the_other_way_round() -> None:
    rng = np.random.default_rng(2)
    a = make_rows("laplace", vocabulary=2000, rows=12, rng=rng)
    b = (a / 1.2 + 0.3 * rng.normal(size=a.shape)).astype(np.float32)
    counted = counted_of(12, problems=6)
    one, other = (
        temperature_null(pair, counted, np.random.default_rng(0))
        for pair in (pair_of(a, b).exchanged(), pair_of(b, a))
    )
    assert one.temperature == pytest.approx(other.temperature, rel=1e-5)
    assert one.share.value == pytest.approx(other.share.value, abs=1e-5)
    np.testing.assert_allclose(one.left, other.left, atol=1e-5)


def test_problems_that_count_nothing_take_no_part_in_the_partition() -> None:
    a, b, counted = moved(np.random.default_rng(3))
    kept = counted.clusters < FOLDS
    one = temperature_null(
        pair_of(a, b),
        Weighted(np.where(kept, counted.weights, 0.0), counted.clusters, 10 * PROBLEMS),
        np.random.default_rng(5),
    )
    other = temperature_null(
        pair_of(a[kept], b[kept]),
        Weighted(counted.weights[kept], counted.clusters[kept], FOLDS),
        np.random.default_rng(5),
    )
    assert one.share.value == pytest.approx(other.share.value)
    np.testing.assert_allclose(one.left[kept], other.left)


def test_fewer_problems_than_parts_tell_no_share() -> None:
    a, b, counted = moved(np.random.default_rng(3))
    few = np.where(counted.clusters < FOLDS - 1, counted.weights, 0.0)
    found = temperature_null(
        pair_of(a, b), Weighted(few, counted.clusters, PROBLEMS), np.random.default_rng(5)
    )
    assert np.isnan(found.share.value)
    assert np.isfinite(found.temperature)


def test_noise_alone_is_no_temperature() -> None:
    rng = np.random.default_rng(0)
    a = rng.uniform(1, 4, size=(300, 1)) * rng.normal(size=(300, 60))
    a -= a.max(axis=1, keepdims=True)
    b = a + 0.02 * rng.normal(size=a.shape)
    found = temperature_null(
        pair_of(a.astype(np.float32), b.astype(np.float32)), counted_of(300, problems=30), rng
    )
    assert abs(found.share.value) < 0.005
    assert not found.share.p_value() < 0.001
