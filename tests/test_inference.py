"""Intervals that resample problems: against slow references, and their laws."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from probing.analysis import inference
from probing.analysis.deltas import (
    delta,
    grouped_intervals,
    kind_intervals,
    per_carrier_weights,
)
from probing.analysis.inference import (
    ClusterInterval,
    IntervalMethod,
    cluster_interval,
    cluster_intervals,
)
from probing.settings import Inference
from probing.vocabulary import Kind

SETTINGS = Inference(draws=400)


@dataclass(frozen=True)
class Sample:
    values: np.ndarray
    weights: np.ndarray
    clusters: np.ndarray


def sample(clusters: int, seed: int, *, effect: float = 0.3, spread: float = 1.0) -> Sample:
    rng = np.random.default_rng(seed)
    codes = np.repeat(rng.permutation(clusters) * 7 - 3, rng.integers(1, 30, size=clusters))
    shared = dict(zip(np.unique(codes), rng.normal(scale=spread, size=clusters), strict=True))
    values = effect + np.array([shared[c] for c in codes]) + rng.normal(size=len(codes))
    return Sample(values, rng.uniform(0.5, 2, size=len(codes)), codes)


def interval(given: Sample, *, settings: Inference = SETTINGS, seed: int = 0) -> ClusterInterval:
    return cluster_interval(
        given.values,
        weights=given.weights,
        clusters=given.clusters,
        settings=settings,
        rng=np.random.default_rng(seed),
    )


@dataclass(frozen=True)
class Plain:
    estimate: float
    error: float


def plain_ratio(given: Sample) -> Plain:
    """The weighted mean and its linearised error, cluster by cluster."""
    estimate = float(np.average(given.values, weights=given.weights))
    residuals = []
    for c in np.unique(given.clusters):
        here = given.clusters == c
        residuals.append((given.weights[here] * (given.values[here] - estimate)).sum())
    count = len(residuals)
    variance = count / (count - 1) * np.square(residuals).sum() / given.weights.sum() ** 2
    return Plain(estimate, float(np.sqrt(variance)))


def rebuilt(given: Sample, picks: np.ndarray) -> Sample:
    """The sample made of these clusters, each pick a cluster of its own."""
    present = np.unique(given.clusters)
    index = [np.flatnonzero(given.clusters == present[pick]) for pick in picks]
    rows = np.concatenate(index)
    renamed = np.repeat(np.arange(len(picks)), [len(each) for each in index])
    return Sample(given.values[rows], given.weights[rows], renamed)


def test_bootstrap_is_the_slow_one_that_rebuilds_every_sample() -> None:
    given = sample(50, 3)
    picks = np.random.default_rng(0).integers(0, 50, size=(SETTINGS.draws, 50))
    whole = plain_ratio(given)
    pivots = []
    for pick in picks:
        drawn = plain_ratio(rebuilt(given, pick))
        pivots.append((drawn.estimate - whole.estimate) / drawn.error)
    low, high = np.quantile(pivots, [0.025, 0.975])
    # The draws may widen Student's interval, never narrow it.
    reach = stats.t.ppf(0.975, 49)
    assert low > -reach
    assert high > reach
    low = -reach
    got = interval(given)
    assert got.estimate == pytest.approx(whole.estimate)
    assert got.low == pytest.approx(whole.estimate - high * whole.error)
    assert got.high == pytest.approx(whole.estimate - low * whole.error)
    assert (got.method, got.note) == (IntervalMethod.BOOTSTRAP, "")
    assert (got.clusters, got.positions, got.missing) == (50, len(given.values), 0)


def test_draws_in_blocks_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = interval(sample(50, 3))
    monkeypatch.setattr(inference, "DRAW_BLOCK_COUNTS", 50 * 7)
    in_blocks = interval(sample(50, 3))
    assert (in_blocks.low, in_blocks.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_few_clusters_use_t_and_say_so() -> None:
    given = sample(9, 1)
    got, whole = interval(given), plain_ratio(given)
    reach = stats.t.ppf(0.975, 8) * whole.error
    assert (got.low, got.high) == pytest.approx((whole.estimate - reach, whole.estimate + reach))
    assert got.method is IntervalMethod.STUDENT
    assert "9 problems" in got.note
    assert interval(given, settings=replace(SETTINGS, few_clusters=9)).note == ""


def test_one_cluster_has_no_interval_and_none_no_estimate() -> None:
    one = interval(Sample(np.array([0.1, 0.3]), np.ones(2), np.array([4, 4])))
    assert one.estimate == pytest.approx(0.2)
    assert np.isnan([one.low, one.high]).all()
    assert (one.method, one.note) == (IntervalMethod.NONE, "one problem: no interval")
    none = interval(Sample(np.full(2, np.nan), np.ones(2), np.array([1, 2])))
    assert np.isnan([none.estimate, none.low, none.high]).all()
    assert (none.clusters, none.positions, none.missing) == (0, 0, 2)
    empty = interval(Sample(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)))
    assert np.isnan(empty.estimate)
    assert empty.note == "nothing measured"


@given(st.integers(2, 70), st.integers(0, 10_000))
def test_flipping_signs_flips_the_interval(clusters: int, seed: int) -> None:
    given = sample(clusters, seed)
    plus, minus = interval(given), interval(replace(given, values=-given.values))
    assert (plus.estimate, plus.low, plus.high) == pytest.approx(
        (-minus.estimate, -minus.high, -minus.low)
    )
    assert plus.low <= plus.estimate <= plus.high


@given(st.integers(2, 60), st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-9, 9))
def test_units_and_weights_scale_through(
    clusters: int, seed: int, by: float, by_add: float
) -> None:
    given = sample(clusters, seed)
    changed = Sample(given.values * by + by_add, given.weights * 3, given.clusters + 100)
    one, other = interval(given), interval(changed)
    for name in ("estimate", "low", "high"):
        wanted = getattr(one, name) * by + by_add
        assert getattr(other, name) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@given(st.integers(0, 10_000))
def test_the_order_of_positions_is_of_no_account(seed: int) -> None:
    given = sample(45, seed)
    order = np.random.default_rng(seed).permutation(len(given.values))
    moved = Sample(given.values[order], given.weights[order], given.clusters[order])
    one, other = interval(given), interval(moved)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_unmeasured_values_and_weightless_positions_are_left_out() -> None:
    given = sample(60, 2)
    holes, weights = given.values.copy(), given.weights.copy()
    holes[::7], holes[1::50], weights[3::11] = np.nan, np.inf, 0
    got = interval(Sample(holes, weights, given.clusters))
    kept = np.isfinite(holes) & (weights > 0)
    wanted = interval(Sample(holes[kept], weights[kept], given.clusters[kept]))
    assert got == replace(wanted, missing=int((~np.isfinite(holes) & (weights > 0)).sum()))
    assert got.missing > 0


def test_columns_share_draws_and_equal_columns_alone() -> None:
    given = sample(45, 8)
    table = np.stack([given.values, given.values**2, -given.values], axis=1)
    together = cluster_intervals(
        table,
        weights=given.weights,
        clusters=given.clusters,
        settings=SETTINGS,
        rng=np.random.default_rng(0),
    )
    for got, column in zip(together, table.T, strict=True):
        alone = interval(replace(given, values=column))
        assert (got.low, got.high) == pytest.approx((alone.low, alone.high))
    assert together[0].low == pytest.approx(-together[2].high)


def test_no_spread_gives_a_point() -> None:
    for value in (0.0, 0.1):
        got = interval(Sample(np.full(100, value), np.ones(100), np.repeat(np.arange(50), 2)))
        assert (got.low, got.estimate, got.high) == pytest.approx((value,) * 3, abs=1e-15)


def test_one_odd_cluster_among_zeros_falls_back_to_t() -> None:
    """A third of the draws miss that cluster and have no error: no quantile of theirs is told."""
    values = np.zeros(100)
    values[:2] = 1.0
    got = interval(Sample(values, np.ones(100), np.repeat(np.arange(50), 2)))
    assert got.method is IntervalMethod.STUDENT
    assert "alike" in got.note
    assert got.low < got.estimate < got.high


def test_clusters_widen_the_interval_as_the_design_effect_says() -> None:
    """Many positions in few problems know no more than the problems do."""
    given = sample(80, 5, spread=3.0)
    clustered = interval(given)
    single = interval(replace(given, clusters=np.arange(len(given.values))))
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    settings = Inference(draws=300)
    covered = []
    for seed in range(150):
        got = interval(sample(45, seed, effect=0.0), settings=settings, seed=seed)
        covered.append(got.low <= 0 <= got.high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_no_interval_is_inside_that_of_student() -> None:
    for seed in range(20):
        given = sample(60, seed)
        got, few = interval(given), interval(given, settings=replace(SETTINGS, few_clusters=61))
        assert got.method is IntervalMethod.BOOTSTRAP
        assert few.method is IntervalMethod.STUDENT
        assert got.low <= few.low
        assert got.high >= few.high


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_that_are_no_weights_are_refused(bad: float) -> None:
    given = sample(5, 0)
    given.weights[2] = bad
    with pytest.raises(ValueError, match="weights must be finite and >= 0, got"):
        interval(given)


def test_a_delta_is_other_less_baseline_where_both_are_measured() -> None:
    baseline = np.array([1.0, np.nan, np.inf, 2.0, np.inf])
    other = np.array([3.0, 1.0, np.inf, np.inf, 4.0])
    np.testing.assert_array_equal(delta(baseline, other), [2.0, *[np.nan] * 4])


def test_groups_are_intervals_of_their_own_positions() -> None:
    given = sample(60, 4)
    codes = np.random.default_rng(1).integers(0, 3, size=len(given.values))
    rest = {
        "weights": given.weights,
        "clusters": given.clusters,
        "settings": SETTINGS,
    }
    table = given.values[:, None]
    groups = grouped_intervals(table, groups=codes, rng=np.random.default_rng(0), **rest)
    assert list(groups) == [0, 1, 2]
    assert sum(group.share for group in groups.values()) == pytest.approx(1)
    for code, group in groups.items():
        here = codes == code
        alone = plain_ratio(Sample(given.values[here], given.weights[here], given.clusters[here]))
        assert group.positions == here.sum()
        assert group.intervals[0].estimate == pytest.approx(alone.estimate)
    by_kind = kind_intervals(table, kind_codes=codes, rng=np.random.default_rng(0), **rest)
    assert list(by_kind) == list(Kind)
    assert by_kind[Kind.LOCK] == groups[0]
    assert by_kind[Kind.MIXED].positions == 0
    assert np.isnan(by_kind[Kind.MIXED].intervals[0].estimate)


def test_per_carrier_weights_let_every_carrier_count_alike() -> None:
    weights, carriers = np.array([1.0, 3.0, 5.0, 0.0]), np.array([8, 8, 2, 4])
    np.testing.assert_allclose(per_carrier_weights(weights, carriers), [0.25, 0.75, 1.0, 0.0])
