"""Tests of a delta against its null: slow references, and the laws they keep."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from probing.analysis.excess import Excess, excess
from probing.analysis.inference import ClusterTotals, pivots
from probing.settings import Inference

SETTINGS = Inference(draws=400)
FEW = dataclasses.replace(SETTINGS, few_clusters=1000)


def side(rng: np.random.Generator, clusters: int, *, effect: float = 0.0) -> ClusterTotals:
    """One column of sums; some clusters hold nothing."""
    weight = rng.gamma(2.0, size=(clusters, 1)) * (rng.random((clusters, 1)) > 0.05)
    return ClusterTotals(weight, weight * (effect + rng.normal(size=(clusters, 1))))


def negated(own: ClusterTotals) -> ClusterTotals:
    return ClusterTotals(own.weight, -own.value)


def judged(
    own: ClusterTotals, exchanged: ClusterTotals, *, settings: Inference = SETTINGS
) -> Excess:
    return excess(own, exchanged, settings=settings, rng=np.random.default_rng(0))


def slow(own: ClusterTotals, exchanged: ClusterTotals, rows: np.ndarray) -> tuple[float, float]:
    """Half of the difference of two weighted means over some clusters, and its error."""
    moved, total = np.zeros(len(rows)), 0.0
    for factor, one in ((0.5, own), (-0.5, exchanged)):
        weight, value = one.weight[rows, 0], one.value[rows, 0]
        mean = value.sum() / weight.sum()
        total += factor * mean
        moved += factor * (value - mean * weight) / weight.sum()
    count = min(int((one.weight[:, 0] > 0).sum()) for one in (own, exchanged))
    return total, float(np.sqrt((moved**2).sum() * count / (count - 1)))


@pytest.mark.parametrize("effect", [0.0, 0.2, 0.6])
def test_the_excess_is_the_slow_bootstrap_of_both_sides_together(effect: float) -> None:
    rng = np.random.default_rng(5)
    own, exchanged = side(rng, 60, effect=effect), side(rng, 60, effect=-effect)
    used = np.flatnonzero((own.weight[:, 0] > 0) | (exchanged.weight[:, 0] > 0))
    value, error = slow(own, exchanged, used)
    draws = np.random.default_rng(0).integers(0, len(used), size=(SETTINGS.draws, len(used)))
    drawn = []
    for picks in draws:
        estimate, own_error = slow(own, exchanged, used[picks])
        drawn.append((estimate - value) / own_error)
    got = judged(own, exchanged)
    assert got.value[0] == pytest.approx(value)
    count = min(int((one.weight > 0).sum()) for one in (own, exchanged))
    reach = scipy_stats.t.ppf(0.975, count - 1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert got.low[0] == pytest.approx(value - max(high, reach) * error)
    assert got.high[0] == pytest.approx(value - min(low, -reach) * error)
    distance = abs(value) / error
    beyond = (np.array(drawn) * np.sign(value) >= distance).sum()
    student = scipy_stats.t.sf(distance, count - 1)
    if beyond >= 4:
        counted = (1 + beyond) / (1 + SETTINGS.draws)
        assert got.p_value[0] == pytest.approx(min(1, 2 * max(counted, student)))
    else:
        assert 2 * student <= got.p_value[0] < 2 * 5 / (1 + SETTINGS.draws)
    power = scipy_stats.t.ppf(0.8, count - 1)
    assert got.detectable[0] == pytest.approx((reach + power) * error)


@given(st.integers(2, 80), st.integers(0, 10_000), st.floats(-0.5, 0.5))
def test_where_exchanging_only_changes_the_sign_the_excess_is_the_delta(
    clusters: int, seed: int, effect: float
) -> None:
    own = side(np.random.default_rng(seed), clusters, effect=effect)
    known = pivots([own], settings=SETTINGS, rng=np.random.default_rng(0))
    rng = np.random.default_rng(0)
    quick = excess(own, negated(own), settings=SETTINGS, rng=rng, of_deltas=known)
    full = judged(own, negated(own))
    for field in dataclasses.fields(Excess):
        np.testing.assert_allclose(
            getattr(quick, field.name), getattr(full, field.name), rtol=1e-9, atol=1e-12
        )
    bounds = known.bounds(level=SETTINGS.level)
    np.testing.assert_array_equal([quick.low, quick.high], [bounds.low, bounds.high])


@given(st.integers(2, 80), st.integers(0, 10_000), st.floats(-0.5, 0.5))
def test_exchanging_the_roles_flips_signs_and_keeps_the_p_value(
    clusters: int, seed: int, effect: float
) -> None:
    rng = np.random.default_rng(seed)
    sides = side(rng, clusters, effect=effect), side(rng, clusters, effect=-effect)
    one, other = judged(*sides), judged(*sides[::-1])
    np.testing.assert_allclose(one.value, -other.value)
    np.testing.assert_allclose([one.low, one.high], [-other.high, -other.low], rtol=1e-7)
    np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-7)
    np.testing.assert_allclose(one.detectable, other.detectable, rtol=1e-7)


def test_the_interval_leaves_out_0_where_the_p_value_is_small() -> None:
    apart = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        effect = rng.normal(scale=0.3)
        got = judged(side(rng, 50, effect=effect), side(rng, 50, effect=-effect))
        outside = bool(got.low[0] > 0 or got.high[0] < 0)
        apart += outside
        if abs(got.p_value[0] - 0.05) > 2 / SETTINGS.draws:
            assert outside == (got.p_value[0] < 0.05), seed
    assert 60 < apart < 240


@pytest.mark.parametrize("clusters", [20, 60])
def test_p_values_are_uniform_where_nothing_happened(clusters: int) -> None:
    settings = Inference(draws=500)
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng([1, clusters, seed])
        shared = ClusterTotals(*(part * 1.0 for part in side(rng, clusters)))
        other = ClusterTotals(shared.weight, -shared.value + 0.3 * rng.normal(size=(clusters, 1)))
        got = excess(shared, other, settings=settings, rng=np.random.default_rng(seed))
        p_values.append(got.p_value[0])
    for share in (0.05, 0.2, 0.5, 0.8):
        found = np.mean(np.array(p_values) <= share)
        # Four standard errors, and the care taken: a p-value is the larger of two.
        assert share - 0.1 <= found <= share + 4 * np.sqrt(share * (1 - share) / 400), share


def test_a_few_clusters_exchange_their_roles_one_by_one() -> None:
    rng = np.random.default_rng(3)
    own = side(rng, 8, effect=0.6)
    exchanged = ClusterTotals(own.weight, -own.value * 0.9)
    adds = (0.5 * own.value - 0.5 * exchanged.value)[:, 0] / own.weight.sum()
    sums = [abs(np.dot(signs, adds)) for signs in product((-1, 1), repeat=len(adds))]
    expected = np.mean(np.array(sums) >= abs(adds.sum()) * (1 - 1e-12))
    assert judged(own, exchanged).p_value[0] == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [9, 25])
def test_a_column_is_judged_beside_others_as_alone(clusters: int) -> None:
    rng = np.random.default_rng(4)
    columns = [(side(rng, clusters, effect=0.2), side(rng, clusters)) for _ in range(3)]
    columns[1] = (columns[1][0], ClusterTotals(*(7 * part for part in columns[1][1])))
    own, exchanged = (
        ClusterTotals(*(np.concatenate(parts, axis=1) for parts in zip(*sides, strict=True)))
        for sides in zip(*columns, strict=True)
    )
    together = judged(own, exchanged, settings=FEW)
    for place, one in enumerate(columns):
        alone = judged(*one, settings=FEW)
        for field in dataclasses.fields(Excess):
            both = [getattr(each, field.name) for each in (together, alone)]
            assert both[0][place] == pytest.approx(both[1][0]), field.name


def test_equal_models_are_preserved_and_not_tested() -> None:
    for clusters in (2, 60):
        own = ClusterTotals(np.ones((clusters, 1)), np.zeros((clusters, 1)))
        got = judged(own, negated(own))
        assert (got.value[0], got.low[0], got.high[0]) == (0, 0, 0)
        assert np.isnan(got.p_value[0])
        assert got.within(np.array([0.02]))[0]
        assert not got.within(np.array([np.nan]))[0]


def test_one_cluster_and_one_empty_side_have_no_test() -> None:
    one = ClusterTotals(np.ones((1, 1)), np.ones((1, 1)))
    rng = np.random.default_rng(0)
    empty = ClusterTotals(np.zeros((60, 1)), np.zeros((60, 1)))
    for sides in ((one, negated(one)), (side(rng, 60), empty)):
        got = judged(*sides)
        for name in ("low", "high", "p_value", "detectable", "inner_low"):
            assert np.isnan(getattr(got, name)[0]), name
        assert not got.within(np.array([9.0]))[0]


@given(st.integers(3, 30), st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_equivalence_is_two_one_sided_tests(clusters: int, seed: int, margin: float) -> None:
    own = side(np.random.default_rng(seed), clusters)
    got = judged(own, negated(own), settings=FEW)
    count = int((own.weight > 0).sum())
    value, error = slow(own, negated(own), np.arange(clusters))
    p_values = [
        scipy_stats.t.sf((margin + value) / error, count - 1),
        scipy_stats.t.sf((margin - value) / error, count - 1),
    ]
    if abs(max(p_values) - 0.05) > 1e-9:
        assert got.within(np.array([margin]))[0] == (max(p_values) < 0.05)


def test_far_beyond_the_draws_a_p_value_goes_on_falling() -> None:
    p_values = []
    for effect in np.linspace(0.2, 2.0, 10):
        own = side(np.random.default_rng(9), 60, effect=effect)
        p_values.append(judged(own, negated(own)).p_value[0])
    assert (np.diff(p_values) < 0).all()
    assert p_values[-1] < 1e-6
