"""The parts of the evidence: each against slow arithmetic over the whole vocabulary."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import BETAS, make_rows
from scipy.special import log_softmax, logsumexp
from scipy.stats import ttest_1samp

from probing.analysis.distributions import Distributions
from probing.analysis.drift import drifted, matching_scale, standard_noise, surprise
from probing.analysis.estimates import Estimate, average, mean_estimate
from probing.analysis.moments import moments
from probing.analysis.pair import NEAR, Edge, PairRows, Weighted, edge
from probing.analysis.progress import loss_parts, progress
from probing.analysis.regression import Beside, fit, regressor
from probing.analysis.reshaping import at_edge, basis, predicted_slope
from probing.analysis.tail import cross_mean_of_rows, tail_of_rows
from probing.analysis.target import ssd_target
from probing.analysis.temperature import temperature_null
from probing.analysis.testing import EXACT_FLIPS, benjamini_hochberg, holm, sign_flip_p_value
from probing.settings import Decoding

TRAINING = Decoding(temperature=1.1, top_k=20, top_p=0.95)


def kept_of(full: np.ndarray, *, among: np.ndarray, depth: int = 64) -> Distributions:
    """What a run holds of full rows whose candidates are the top ids of `among`, side by side."""
    tops = [np.argsort(-each, axis=1, kind="stable")[:, :depth] for each in among]
    ids = np.stack([_union(rows) for rows in np.concatenate(tops, axis=1)])
    inside = candidates_mask(ids, full.shape)
    logits = np.where(ids >= 0, np.take_along_axis(full, np.maximum(ids, 0), axis=1), -np.inf)
    return Distributions(
        ids=ids.astype(np.int32),
        logits=logits.astype(np.float32),
        tail=tail_of_rows(full, inside, betas=BETAS),
        betas=BETAS,
    )


WIDTH = 128


def candidates_mask(ids: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Whether each id of the vocabulary is a candidate."""
    inside = np.zeros(shape, dtype=bool)
    for row, own in zip(inside, ids, strict=True):
        row[own[own >= 0]] = True
    return inside


def _union(ids: np.ndarray) -> np.ndarray:
    """Distinct ids, then -1."""
    found = list(dict.fromkeys(ids.tolist()))
    return np.array(found + [-1] * (WIDTH - len(found)))


def pair_of(a: np.ndarray, b: np.ndarray) -> PairRows:
    """Both models' rows as a run holds them."""
    among = np.stack([a, b])
    inside = candidates_mask(kept_of(a, among=among).ids, a.shape)
    mean = replace(kept_of((a + b) / 2, among=among), is_mean=True)
    return PairRows(
        baseline=kept_of(a, among=among),
        other=kept_of(b, among=among),
        mean=mean,
        other_over_baseline=cross_mean_of_rows(a, b, inside, betas=BETAS),
        baseline_over_other=cross_mean_of_rows(b, a, inside, betas=BETAS),
    )


def real_like(rows: int, *, vocabulary: int = 3000, seed: int = 0) -> np.ndarray:
    """Rows with sharp and open heads over a tail."""
    rng = np.random.default_rng(seed)
    half = rows // 2
    sharp = make_rows("peaked", vocabulary=vocabulary, rows=half, rng=rng)
    return np.concatenate(
        [sharp, make_rows("forked", vocabulary=vocabulary, rows=rows - half, rng=rng)]
    )


def overlapping(rows: int, *, vocabulary: int, contexts: int) -> np.ndarray:
    """The same contexts in every problem; as probable tokens lie inside and outside."""
    rng = np.random.default_rng(0)
    heads = rng.uniform(1, 8, size=(contexts, 1)) * rng.normal(size=(contexts, vocabulary))
    found = heads[np.arange(rows) % contexts] + 0.3 * rng.normal(size=(rows, vocabulary))
    return found.astype(np.float32)


def target_of(row: np.ndarray, training: Decoding) -> np.ndarray:
    """q of one full row, plainly."""
    order = np.argsort(-row, kind="stable")
    weight = np.exp((row[order] - row.max()).astype(np.float64) / training.temperature)
    weight[training.top_k :] = 0
    weight /= weight.sum()
    weight[np.cumsum(weight) - weight >= training.top_p] = 0
    q = np.zeros(len(row))
    q[order] = weight / weight.sum()
    return q


def counted_of(rows: int, *, problems: int) -> Weighted:
    return Weighted(np.ones(rows), np.arange(rows) % problems, problems)


# --- Estimates --------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), clusters=st.integers(2, 9))
def test_a_mean_and_its_error_are_the_plain_ones(seed: int, clusters: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=40), rng.uniform(0, 3, size=40)
    values[rng.random(40) < 0.1] = np.nan
    where = rng.integers(0, clusters, size=40)
    found = mean_estimate(values, weights=weights, clusters=where, size=clusters)
    good = np.isfinite(values) & (weights > 0)
    mean = (values[good] * weights[good]).sum() / weights[good].sum()
    sums = [
        (weights * (values - mean))[good & (where == c)].sum() / weights[good].sum()
        for c in range(clusters)
    ]
    there = sum(bool((good & (where == c)).any()) for c in range(clusters))
    assert found.value == pytest.approx(mean)
    assert found.error == pytest.approx(np.sqrt(there / (there - 1) * np.square(sums).sum()))
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)


def test_the_error_of_a_difference_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=200)
    one, two = shared + 0.1 * rng.normal(size=200), shared + 0.1 * rng.normal(size=200)
    options = {"weights": np.ones(200), "clusters": np.arange(200) % 25, "size": 25}
    apart = mean_estimate(one, **options) - mean_estimate(two, **options)
    together = mean_estimate(one - two, **options)
    assert apart.value == pytest.approx(together.value)
    assert apart.error == pytest.approx(together.error)
    assert apart.error < mean_estimate(one, **options).error / 3


def test_equivalence_and_what_is_detectable() -> None:
    rng = np.random.default_rng(1)
    influence = rng.normal(size=50)
    influence *= 0.01 / np.sqrt(50 / 49 * (influence**2).sum())
    small = Estimate(0.001, influence, 500)
    assert small.error == pytest.approx(0.01)
    assert small.equivalence(margin=0.05) < 0.001
    assert small.equivalence(margin=0.005) > 0.3
    assert replace(small, value=0.05).equivalence(margin=0.05) == pytest.approx(0.5)
    # The effect that a two-sided test at 5 % finds four times in five: about 2.8 errors.
    assert small.detectable(level=0.95) == pytest.approx(0.0286, abs=5e-4)
    assert replace(small, value=0.03).p_value() < 0.01 < small.p_value()


@pytest.mark.parametrize(("seed", "size", "effect"), [(0, 2, 0.1), (1, 9, -1.0), (2, 30, 0.5)])
def test_one_position_a_problem_is_the_t_test_of_one_sample(
    seed: int, size: int, effect: float
) -> None:
    values = effect + np.random.default_rng(seed).normal(size=size)
    found = mean_estimate(values, weights=np.ones(size), clusters=np.arange(size), size=size)
    plain = ttest_1samp(values, 0.0)
    assert found.p_value() == pytest.approx(plain.pvalue)
    assert found.interval(level=0.9) == pytest.approx(tuple(plain.confidence_interval(0.9)))
    one_sided = [
        ttest_1samp(values, end, alternative=side).pvalue
        for end, side in ((-0.4, "greater"), (0.4, "less"))
    ]
    assert found.equivalence(margin=0.4) == pytest.approx(max(one_sided))


def test_the_error_of_half_a_sum_is_that_of_the_half_sums() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 200)) + rng.normal(size=200)
    options = {"weights": np.ones(200), "clusters": np.arange(200) % 25, "size": 25}
    halves = average([mean_estimate(one, **options), mean_estimate(two, **options)])
    together = mean_estimate((one + two) / 2, **options)
    assert halves.value == pytest.approx(together.value)
    assert halves.error == pytest.approx(together.error)


# --- Many tests -------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_and_benjamini_hochberg_are_the_plain_ones(raw: list[float]) -> None:
    p = np.array(raw)
    order, count = np.argsort(p, kind="stable"), len(p)
    for place, test in enumerate(order):
        earlier = [p[order[j]] * (count - j) for j in range(place + 1)]
        later = [p[order[j]] * count / (j + 1) for j in range(place, count)]
        assert holm(p)[test] == pytest.approx(min(1.0, max(earlier)))
        assert benjamini_hochberg(p)[test] == pytest.approx(min(1.0, min(later)))


def test_what_was_not_tested_is_no_part_of_the_family() -> None:
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(holm(p), [0.02, np.nan, 0.04])
    np.testing.assert_allclose(benjamini_hochberg(p), [0.02, np.nan, 0.04])


def test_signs_are_flipped_in_every_way() -> None:
    values = np.array([3.0, 1.0, 2.0, -0.5])
    sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=4)]
    expected = np.mean([each >= abs(values.sum()) - 1e-12 for each in sums])
    found = sign_flip_p_value(values, draws=10, rng=np.random.default_rng(0))
    assert found == pytest.approx(expected)
    many = np.random.default_rng(1).normal(0.5, size=60)
    assert sign_flip_p_value(many, draws=4999, rng=np.random.default_rng(2)) < 0.01


def test_drawn_signs_come_near_to_every_sign_and_never_to_0() -> None:
    values = np.random.default_rng(4).normal(0.35, size=EXACT_FLIPS + 2)
    sums = np.abs(np.array(list(product((1, -1), repeat=len(values)))) @ values)
    exact = (sums >= abs(values.sum()) - 1e-12).mean()
    assert 0.02 < exact < 0.3
    draws = 20_000
    found = sign_flip_p_value(values, draws=draws, rng=np.random.default_rng(0))
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / draws)
    alike = np.ones(60)
    assert sign_flip_p_value(alike, draws=99, rng=np.random.default_rng(0)) == 1 / 100


# --- Progress ---------------------------------------------------------------------------------


def test_progress_is_the_plain_one() -> None:
    a = real_like(8)
    b = a + np.random.default_rng(1).normal(scale=0.5, size=a.shape).astype(np.float32)
    pair = pair_of(a, b)
    target = ssd_target(pair.baseline, training=Decoding(temperature=1.1, top_k=20, top_p=0.95))
    found = progress(pair.baseline, pair.other, target)
    for row in range(len(a)):
        q = target_of(a[row], TRAINING)
        log_a, log_b = (log_softmax(x[row].astype(np.float64)) for x in (a, b))
        inside = q > 0
        support = logsumexp(log_b[inside]) - logsumexp(log_a[inside])
        total = (q * (log_b - log_a)).sum()
        assert found.support[row] == pytest.approx(support, abs=2e-5)
        assert found.total[row] == pytest.approx(total, abs=2e-5)
        distance = (q[inside] * (np.log(q[inside]) - log_a[inside])).sum()
        assert found.distance[row] == pytest.approx(distance, abs=2e-5)


@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.4, 1.9),
    top_k=st.integers(1, 30),
    top_p=st.floats(0.2, 1.0),
)
def test_the_loss_splits_exactly(seed: int, temperature: float, top_k: int, top_p: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(scale=3, size=(3, 60)).astype(np.float32)
    b = (a + rng.normal(size=a.shape)).astype(np.float32)
    pair = pair_of(a, b)
    training = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    target = ssd_target(pair.baseline, training=training)
    parts = loss_parts(target, pair.other, temperature=temperature)
    for row in range(3):
        q = target_of(a[row], training)
        loss = -(q * log_softmax(b[row].astype(np.float64))).sum()
        mass = logsumexp(log_softmax(b[row].astype(np.float64))[q > 0])
        assert sum(part[row] for part in parts.values()) == pytest.approx(loss, abs=1e-5)
        assert parts["support"][row] == pytest.approx(-mass, abs=1e-5)
        assert parts["alignment"][row] >= -1e-9


def test_at_temperature_1_nothing_is_reshaped() -> None:
    a = real_like(6)
    pair = pair_of(a, a + np.float32(0.3) * real_like(6, seed=3))
    target = ssd_target(pair.baseline, training=Decoding(temperature=1.0, top_k=20, top_p=0.9))
    assert np.abs(loss_parts(target, pair.other, temperature=1.0)["reshaping"]).max() < 1e-9


# --- Slopes -----------------------------------------------------------------------------------


def test_a_slope_is_least_squares_with_a_dummy_for_every_level() -> None:
    rng = np.random.default_rng(0)
    n, positions, clusters = 108, np.repeat(np.arange(12), 9), np.arange(12) % 4
    tokens, x = rng.integers(0, 12, size=n), rng.normal(size=(n, 2))
    y = rng.normal(size=n) + tokens + 0.5 * x[:, 0]
    weights, of_positions = rng.uniform(0.1, 2, size=n), rng.uniform(0.5, 2, size=12)
    beside = Beside(
        [tokens],
        [x[:, 1]],
        weights=weights,
        positions=positions,
        counted=Weighted(of_positions, clusters, 4),
    )
    found = fit(regressor(beside, x[:, 0]), y)
    # Plainly: a dummy for every position and token.
    dummies = np.concatenate([np.eye(12)[positions], np.eye(12)[tokens]], axis=1)
    root = np.sqrt(weights * of_positions[positions])

    def solved(design: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]

    whole, alone = np.concatenate([x, dummies], axis=1), np.concatenate([x[:, 1:], dummies], axis=1)
    plain = solved(whole)
    assert found.slope.value == pytest.approx(plain[0], rel=1e-6)
    residual = root * (y - whole @ plain)
    before = root * (y - alone @ solved(alone))
    assert found.r_squared == pytest.approx(1 - (residual**2).sum() / (before**2).sum())
    bread = np.linalg.pinv((whole * root[:, None]).T @ (whole * root[:, None]))
    meat = np.zeros((26, 26))
    for problem in range(4):
        inside = clusters[positions] == problem
        score = (whole * root[:, None])[inside].T @ residual[inside]
        meat += np.outer(score, score)
    correction = found.slope.effective / (found.slope.effective - 1)
    error = correction * (bread @ meat @ bread)[0, 0]
    assert found.slope.error**2 == pytest.approx(error, rel=1e-6)


def test_what_is_beside_it_tells_wholly_has_no_slope() -> None:
    rng = np.random.default_rng(0)
    positions, x = np.repeat(np.arange(12), 9), rng.normal(size=108)
    beside = Beside(
        [],
        [x],
        weights=np.ones(108),
        positions=positions,
        counted=Weighted(np.ones(12), np.arange(12) % 4, 4),
    )
    of_position = rng.normal(size=12)[positions]
    for nothing in (2 * x + of_position, of_position, np.zeros(108)):
        found = fit(regressor(beside, nothing), rng.normal(size=108))
        assert np.isnan(found.slope.value)
        assert found.slope.clusters == 0


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_geometric_step_to_the_target_has_its_strength_as_slope(strength: float) -> None:
    a = overlapping(320, vocabulary=60, contexts=32)
    b = a.copy()
    for row in range(len(a)):
        q = target_of(a[row], TRAINING)
        inside = q > 0
        b[row, inside] += strength * (np.log(q[inside]) - log_softmax(a[row])[inside])
    counted = counted_of(320, problems=10)
    around = edge_of(a, b)
    found = predicted_slope(around, basis(around, counted)).slope
    assert found.value == pytest.approx(strength, abs=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 1.019, 0.985])
def test_a_target_of_the_same_shape_has_no_slope(temperature: float) -> None:
    a = overlapping(320, vocabulary=60, contexts=32)
    training = Decoding(temperature=temperature, top_k=20, top_p=0.9)
    b = a + np.float32(0.3) * real_like(320, vocabulary=60, seed=3)
    around = edge_of(a, b, training=training)
    found = predicted_slope(around, basis(around, counted_of(320, problems=10))).slope
    assert np.isnan(found.value)
    assert found.clusters == 0


def edge_of(a: np.ndarray, b: np.ndarray, *, training: Decoding = TRAINING) -> Edge:
    pair = pair_of(a, b)
    return edge(pair.baseline, pair.other, ssd_target(pair.baseline, training=training))


def test_a_temperature_is_a_trend_without_a_gap() -> None:
    a = real_like(1280)
    around = edge_of(a, a / 1.25)
    trend, _, gap = at_edge(around, basis(around, counted_of(1280, problems=12)))
    assert trend.value == pytest.approx(1 / 1.25 - 1, abs=1e-4)
    assert gap.value == pytest.approx(0, abs=1e-4)


def test_what_only_tokens_outside_lose_is_the_gap() -> None:
    a = real_like(1280)
    b = a.copy()
    for row in range(len(a)):
        b[row, target_of(a[row], TRAINING) == 0] -= 0.5
    around = edge_of(a, b)
    trend, _, gap = at_edge(around, basis(around, counted_of(1280, problems=12)))
    assert gap.value == pytest.approx(-0.5, abs=1e-3)
    assert trend.value == pytest.approx(0, abs=1e-3)


def test_near_tokens_are_the_next_ranks() -> None:
    a = real_like(10)
    found = edge_of(a, a)
    for row in range(10):
        size = int((target_of(a[row], TRAINING) > 0).sum())
        order = np.argsort(-a[row], kind="stable")
        assert set(found.ids[row][found.inside[row]]) == set(order[:size])
        assert set(found.ids[row][found.near[row]]) == set(order[size : size + NEAR])


# --- Temperature ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_a_temperature_is_found(temperature: float) -> None:
    a = real_like(40)
    null = temperature_null(
        pair_of(a, (a / temperature).astype(np.float32)),
        counted_of(40, problems=10),
        np.random.default_rng(0),
    )
    assert null.temperature == pytest.approx(temperature, rel=5e-3)
    assert not null.at_end
    if temperature != 1.0:
        assert null.share.value > 0.995


def test_noise_is_no_temperature() -> None:
    a = real_like(80)
    noise = np.random.default_rng(1).normal(scale=0.3, size=a.shape).astype(np.float32)
    null = temperature_null(
        pair_of(a, a + noise), counted_of(80, problems=20), np.random.default_rng(0)
    )
    assert null.share.value < 0.1


# --- Drift ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.2, 0.8])
def test_noise_outside_the_candidates_is_taken_in_expectation(scale: float) -> None:
    rng = np.random.default_rng(0)
    a = make_rows("laplace", vocabulary=60_000, rows=4, rng=rng)
    rows = kept_of(a, among=np.stack([a, a]))
    candidates = standard_noise(rows, rng)
    noisy = drifted(rows, candidates, scale=np.full(4, scale))
    full = a + scale * rng.standard_normal(a.shape)
    np.put_along_axis(full, rows.ids[:, :64].astype(np.int64), noisy.logits[:, :64], axis=1)
    for t in (0.8, 1.0, 1.6):
        found = moments(noisy, temperature=t)
        for row in range(4):
            log_p = log_softmax(full[row] / t)
            assert found.log_z[row] == pytest.approx(logsumexp(full[row] / t), abs=0.04)
            assert found.entropy_nats[row] == pytest.approx(
                -(np.exp(log_p) * log_p).sum(), abs=0.06
            )


def test_the_noise_costs_what_was_observed_in_every_group() -> None:
    rng = np.random.default_rng(0)
    a = real_like(30)
    rows = kept_of(a, among=np.stack([a, a]))
    found = surprise(rows, standard_noise(rows, rng))
    observed, groups = rng.uniform(0.001, 0.1, size=30), np.arange(30) % 3
    observed[4] = np.nan
    weights = rng.uniform(0.5, 2, size=30)
    scale = matching_scale(found, observed, groups=groups, weights=weights)
    cost = found.at(scale)
    for group in range(3):
        inside = (groups == group) & np.isfinite(observed)
        assert np.average(cost[inside], weights=weights[inside]) == pytest.approx(
            np.average(observed[inside], weights=weights[inside]), rel=1e-6
        )
        assert len(np.unique(scale[groups == group])) == 1


def test_the_cost_of_noise_is_the_divergence() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(scale=2, size=(5, 40)).astype(np.float32)
    rows = kept_of(a, among=np.stack([a, a]))
    noise = standard_noise(rows, rng)
    cost = surprise(rows, noise).at(np.full(5, 0.7))
    for row in range(5):
        used = rows.ids[row] >= 0
        before = log_softmax(rows.logits[row][used].astype(np.float64))
        after = log_softmax(rows.logits[row][used] + 0.7 * noise[row][used])
        assert cost[row] == pytest.approx((np.exp(before) * (before - after)).sum(), abs=1e-9)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_the_cost_of_noise_counts_the_tail(scale: float) -> None:
    rng = np.random.default_rng(0)
    a = make_rows("laplace", vocabulary=60_000, rows=4, rng=rng)
    rows = kept_of(a, among=np.stack([a, a]))
    noise = standard_noise(rows, rng)
    every = rng.standard_normal(a.shape)
    np.put_along_axis(every, rows.ids[:, :64].astype(np.int64), noise[:, :64], axis=1)
    before, after = (log_softmax(x, axis=1) for x in (a.astype(np.float64), a + scale * every))
    cost = surprise(rows, noise).at(np.full(4, scale))
    np.testing.assert_allclose(cost, (np.exp(before) * (before - after)).sum(axis=1), rtol=0.1)
