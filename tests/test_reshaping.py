"""Shifts of single tokens: what is none of theirs, and which positions tell."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import log_softmax
from test_evidence import TRAINING, counted_of, edge_of, overlapping, real_like, target_of

from probing.analysis.estimates import Estimate
from probing.analysis.pair import Edge, Weighted
from probing.analysis.reshaping import at_edge, basis, token_consistency

ROWS, VOCABULARY, PROBLEMS = 160, 120, 40


def led_by_few(rng: np.random.Generator) -> np.ndarray:
    """Open rows that one of four tokens leads."""
    a = 2 * rng.normal(size=(ROWS, VOCABULARY))
    a[np.arange(ROWS), np.arange(ROWS) % 4] = a.max(axis=1) + rng.uniform(0.1, 0.6, size=ROWS)
    return a.astype(np.float32)


def test_what_befalls_whichever_token_leads_is_no_shift_of_that_token() -> None:
    rng = np.random.default_rng(0)
    a = led_by_few(rng)
    b = (a + 0.1 * rng.normal(size=a.shape)).astype(np.float32)
    b[np.arange(ROWS), a.argmax(axis=1)] += 1
    counted = Weighted(np.ones(ROWS), np.arange(ROWS) % PROBLEMS, PROBLEMS)
    found = token_consistency(edge_of(a, b), counted, rng)
    assert found.p_value > 0.01
    assert found.share < 0.05


def by_side(outside: np.ndarray, log_a: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.where(outside, -0.6, 0.0)


def by_side_and_probability(outside: np.ndarray, log_a: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.where(outside, log_a + 4.0, 0.0)


def by_target(outside: np.ndarray, log_a: np.ndarray, q: np.ndarray) -> np.ndarray:
    return 3 * q


@pytest.mark.parametrize("change", [by_side, by_side_and_probability, by_target])
def test_what_the_edge_and_the_target_tell_is_no_shift_of_tokens(
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> None:
    a = overlapping(320, vocabulary=60, contexts=8)
    q = np.array([target_of(row, TRAINING) for row in a])
    rng = np.random.default_rng(0)
    b = a + change(q == 0, log_softmax(a, axis=1), q) + 0.02 * rng.normal(size=a.shape)
    counted = Weighted(np.ones(320), np.arange(320) // 8, PROBLEMS)
    found = token_consistency(edge_of(a, b.astype(np.float32)), counted, rng)
    assert found.share < 0.005


def test_positions_that_count_nothing_tell_nothing_of_tokens() -> None:
    rng = np.random.default_rng(0)
    a = real_like(ROWS, vocabulary=VOCABULARY)
    b = (a + 0.2 * rng.normal(size=VOCABULARY) + 0.2 * rng.normal(size=a.shape)).astype(np.float32)
    weights, clusters = rng.uniform(0.5, 2, size=ROWS), np.arange(ROWS) % PROBLEMS
    kept = rng.random(ROWS) < 0.5
    b[~kept] += 3 * rng.normal(size=VOCABULARY).astype(np.float32)
    one = token_consistency(
        edge_of(a, b),
        Weighted(np.where(kept, weights, 0.0), clusters, PROBLEMS),
        np.random.default_rng(1),
    )
    other = token_consistency(
        edge_of(a[kept], b[kept]),
        Weighted(weights[kept], clusters[kept], PROBLEMS),
        np.random.default_rng(1),
    )
    assert one.share == pytest.approx(other.share)
    assert (one.p_value, one.shift) == pytest.approx((other.p_value, other.shift))
    assert one.share > 0.2


def bent(log_a: np.ndarray) -> np.ndarray:
    return 0.01 * log_a**2


def smoothed(log_a: np.ndarray) -> np.ndarray:
    flat = np.log(0.01 / log_a.shape[1])
    return np.logaddexp(log_a + np.log(0.99), flat) - log_a


def trimmed(log_a: np.ndarray) -> np.ndarray:
    return np.where(log_a < np.log(0.011), -0.5, 0.0)


@pytest.mark.parametrize("change", [bent, smoothed, trimmed])
def test_what_befalls_tokens_by_probability_alone_is_no_gap(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    log_a = log_softmax(real_like(8 * ROWS), axis=1)
    b = log_a + change(log_a)
    counted = Weighted(np.ones(len(b)), np.arange(len(b)) % PROBLEMS, PROBLEMS)
    gap = gap_of(edge_of(log_a.astype(np.float32), b.astype(np.float32)), counted)
    assert gap.value == pytest.approx(0, abs=0.02)


def uncertain(log_a: np.ndarray) -> np.ndarray:
    return -(np.exp(log_a) * log_a).sum(axis=1, keepdims=True) > 0.7


def tempered_where_uncertain(log_a: np.ndarray) -> np.ndarray:
    return np.where(uncertain(log_a), 0.25 * log_a, 0.0)


def sharper_by_entropy(log_a: np.ndarray) -> np.ndarray:
    return -0.12 * (np.exp(log_a) * log_a).sum(axis=1, keepdims=True) * log_a


def tempered_at_random(log_a: np.ndarray) -> np.ndarray:
    return 0.25 * np.random.default_rng(0).normal(size=(len(log_a), 1)) * log_a


def trimmed_where_uncertain(log_a: np.ndarray) -> np.ndarray:
    return np.where(uncertain(log_a) & (log_a < np.log(0.011)), -0.5, 0.0)


@pytest.mark.parametrize(
    "change",
    [tempered_where_uncertain, sharper_by_entropy, tempered_at_random, trimmed_where_uncertain],
)
def test_what_befalls_some_positions_is_no_gap(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    log_a = log_softmax(overlapping(640, vocabulary=200, contexts=64), axis=1)
    b = log_a + change(log_a)
    counted = Weighted(np.ones(640), np.arange(640) // 16, PROBLEMS)
    gap = gap_of(edge_of(log_a, b.astype(np.float32)), counted)
    assert gap.value == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    "change", [tempered_where_uncertain, sharper_by_entropy, tempered_at_random]
)
def test_temperatures_of_positions_are_no_shift_of_tokens(
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    log_a = log_softmax(overlapping(320, vocabulary=60, contexts=16), axis=1)
    rng = np.random.default_rng(0)
    b = log_a + change(log_a) + 0.05 * rng.normal(size=log_a.shape)
    counted = Weighted(np.ones(320), np.arange(320) // 8, PROBLEMS)
    found = token_consistency(edge_of(log_a, b.astype(np.float32)), counted, rng)
    assert found.share < 0.005


@pytest.mark.parametrize(
    ("change", "tilt"),
    [
        (lambda log_a: 0.25 * log_a, 0.0),
        (tempered_where_uncertain, 0.25),
        (lambda log_a: np.where(uncertain(log_a), 0.0, 0.25 * log_a), -0.25),
    ],
    ids=["everywhere", "where uncertain", "where certain"],
)
def test_the_tilt_is_how_much_more_uncertain_positions_are_tempered(
    change: Callable[[np.ndarray], np.ndarray], tilt: float
) -> None:
    log_a = log_softmax(overlapping(640, vocabulary=200, contexts=64), axis=1)
    around = edge_of(log_a, (log_a + change(log_a)).astype(np.float32))
    counted = Weighted(np.ones(640), np.arange(640) // 16, PROBLEMS)
    found = at_edge(around, basis(around, counted)).tilt
    assert found.value == pytest.approx(tilt, abs=0.02)


def gap_of(around: Edge, counted: Weighted) -> Estimate:
    return at_edge(around, basis(around, counted)).gap


@pytest.mark.parametrize("edge", [0.0, -0.4])
def test_tokens_that_shift_alike_everywhere_are_no_edge(edge: float) -> None:
    a = overlapping(640, vocabulary=200, contexts=64)
    outside = np.array([target_of(row, TRAINING) == 0 for row in a])
    counted = Weighted(np.ones(640), np.arange(640) // 16, PROBLEMS)
    for seed in range(5):
        bias = 0.5 * np.random.default_rng(seed).normal(size=200)
        b = (a + bias + np.where(outside, edge, 0.0)).astype(np.float32)
        assert gap_of(edge_of(a, b), counted).value == pytest.approx(edge, abs=1e-4)


def test_the_error_of_the_gap_is_that_of_noise() -> None:
    a = overlapping(320, vocabulary=60, contexts=32)
    counted = Weighted(np.ones(320), np.arange(320) // 8, PROBLEMS)
    on = basis(edge_of(a, a), counted)
    rng, told = np.random.default_rng(0), []
    for _ in range(200):
        b = (a + 0.3 * rng.normal(size=a.shape)).astype(np.float32)
        told.append(at_edge(edge_of(a, b), on).gap.p_value() < 0.05)
    assert np.mean(told) == pytest.approx(0.05, abs=0.05)


def test_few_problems_try_every_sign() -> None:
    a = real_like(40, vocabulary=60)
    shift = np.random.default_rng(0).normal(size=60).astype(np.float32)
    counted = Weighted(np.ones(40), np.arange(40) % 4, PROBLEMS)
    found = token_consistency(edge_of(a, a + shift), counted, np.random.default_rng(1))
    assert found.p_value == found.least_p_value == 2 / 2**4


def test_equal_models_have_no_shifts() -> None:
    a = real_like(40)
    counted = Weighted(np.ones(40), np.arange(40) % 10, 10)
    found = token_consistency(edge_of(a, a), counted, np.random.default_rng(1))
    assert (found.share, found.shift) == (0.0, 0.0)
    assert np.isnan(found.p_value)


def test_single_tokens_that_move_alike_are_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    a = real_like(240, vocabulary=200)
    bias = rng.normal(scale=0.3, size=200).astype(np.float32)
    noise = rng.normal(scale=0.3, size=a.shape).astype(np.float32)
    counted = counted_of(240, problems=30)
    moved = token_consistency(edge_of(a, a + bias), counted, rng)
    assert moved.p_value < 0.001
    assert moved.share > 0.7
    assert 0.2 < moved.shift < 0.3
    noisy = token_consistency(edge_of(a, a + noise), counted, rng)
    assert noisy.p_value > 0.01
    assert abs(noisy.share) < 0.05


def test_the_p_values_of_single_tokens_are_not_too_small_under_noise() -> None:
    a = real_like(60, vocabulary=150)
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = rng.normal(scale=0.2, size=a.shape).astype(np.float32)
        around = edge_of(a, a + noise)
        found.append(token_consistency(around, counted_of(60, problems=20), rng).p_value)
    assert np.mean(np.array(found) <= 0.1) <= 0.22  # 0.1 expected; four standard errors above.
