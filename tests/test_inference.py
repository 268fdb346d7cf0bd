"""Intervals that resample problems: against slow references, and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from probing.analysis.inference import ClusterInterval, cluster_interval, cluster_intervals
from probing.settings import Inference

SETTINGS = Inference(draws=2000)


def _clustered(
    clusters: int, seed: int, *, effect: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, size=clusters)
    codes = np.repeat(np.arange(clusters), sizes)
    values = effect + rng.normal(size=clusters)[codes] + rng.normal(size=len(codes))
    return values, rng.uniform(0.5, 2, size=len(codes)), codes


def _interval(values: np.ndarray, weights: np.ndarray, clusters: np.ndarray) -> ClusterInterval:
    rng = np.random.default_rng(0)
    return cluster_interval(values, weights=weights, clusters=clusters, settings=SETTINGS, rng=rng)


def test_bootstrap_equals_a_slow_one_that_rebuilds_every_sample() -> None:
    values, weights, codes = _clustered(50, 3)
    got = _interval(values, weights, codes)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(50, np.full(50, 1 / 50), size=SETTINGS.draws)
    estimate, error = _ratio_by_hand(values, weights, codes)
    pivots = []
    for draw in counts:
        picked = [np.flatnonzero(codes == c) for c in np.repeat(np.arange(50), draw)]
        index = np.concatenate(picked)
        renamed = np.repeat(np.arange(50), [len(p) for p in picked])
        drawn, drawn_error = _ratio_by_hand(values[index], weights[index], renamed)
        pivots.append((drawn - estimate) / drawn_error)
    low, high = np.quantile(pivots, [0.025, 0.975])
    assert got.method == "studentised bootstrap"
    assert got.estimate == pytest.approx(np.average(values, weights=weights))
    assert (got.low, got.high) == pytest.approx((estimate - high * error, estimate - low * error))


def _ratio_by_hand(
    values: np.ndarray, weights: np.ndarray, codes: np.ndarray
) -> tuple[float, float]:
    estimate = float(np.average(values, weights=weights))
    residuals = [
        (weights[codes == c] * (values[codes == c] - estimate)).sum() for c in np.unique(codes)
    ]
    count = len(residuals)
    variance = count / (count - 1) * np.square(residuals).sum() / weights.sum() ** 2
    return estimate, float(np.sqrt(variance))


def test_few_problems_use_t_and_say_so() -> None:
    values, weights, codes = _clustered(9, 1)
    got = _interval(values, weights, codes)
    estimate, error = _ratio_by_hand(values, weights, codes)
    reach = stats.t.ppf(0.975, 8) * error
    assert (got.low, got.high) == pytest.approx((estimate - reach, estimate + reach))
    assert got.method == "t"
    assert "9 problems" in got.note


def test_one_problem_has_no_interval_and_none_no_estimate() -> None:
    values = np.array([0.1, 0.3])
    one = _interval(values, np.ones(2), np.array([4, 4]))
    assert one.estimate == pytest.approx(0.2)
    assert np.isnan([one.low, one.high]).all()
    assert one.method == "none"
    none = _interval(np.full(2, np.nan), np.ones(2), np.array([1, 2]))
    assert np.isnan(none.estimate)
    assert none.missing == 2


@given(st.integers(2, 70), st.integers(0, 10_000))
def test_flipping_signs_flips_the_interval(clusters: int, seed: int) -> None:
    values, weights, codes = _clustered(clusters, seed)
    plus, minus = (_interval(v, weights, codes) for v in (values, -values))
    assert (plus.estimate, plus.low, plus.high) == pytest.approx(
        (-minus.estimate, -minus.high, -minus.low)
    )
    assert plus.low <= plus.estimate <= plus.high


def test_missing_values_are_left_out_and_counted() -> None:
    values, weights, codes = _clustered(60, 2)
    holes = values.copy()
    holes[::7] = np.nan
    kept = ~np.isnan(holes)
    got, want = (
        _interval(holes, weights, codes),
        _interval(values[kept], weights[kept], codes[kept]),
    )
    assert got.estimate == pytest.approx(want.estimate)
    assert got.missing == int((~kept).sum())
    assert got.positions == want.positions


def test_columns_together_equal_columns_alone() -> None:
    values, weights, codes = _clustered(45, 8)
    table = np.stack([values, values**2], axis=1)
    together = cluster_intervals(
        table, weights=weights, clusters=codes, settings=SETTINGS, rng=np.random.default_rng(0)
    )
    assert together == [_interval(column, weights, codes) for column in table.T]


def test_no_spread_gives_a_point() -> None:
    got = _interval(np.zeros(100), np.ones(100), np.repeat(np.arange(50), 2))
    assert (got.low, got.estimate, got.high) == (0, 0, 0)
