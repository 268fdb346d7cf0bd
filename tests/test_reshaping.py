"""Shifts of single tokens: what is none of theirs, and which positions tell."""

import numpy as np
import pytest
from scipy.special import log_softmax
from test_evidence import edge_of, real_like

from probing.analysis.pair import Weighted
from probing.analysis.reshaping import at_edge, token_consistency

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


@pytest.mark.parametrize("bend", [-0.01, 0.01])
def test_what_bends_without_a_step_has_no_gap(bend: float) -> None:
    log_a = log_softmax(real_like(ROWS), axis=1)
    b = log_a + bend * log_a**2
    counted = Weighted(np.ones(ROWS), np.arange(ROWS) % PROBLEMS, PROBLEMS)
    _, gap = at_edge(edge_of(log_a.astype(np.float32), b.astype(np.float32)), counted)
    assert gap.value == pytest.approx(0, abs=1e-3)


def test_label_smoothing_lifts_what_lies_outside() -> None:
    log_a = log_softmax(real_like(ROWS), axis=1)
    floor = np.log(0.01 / log_a.shape[1])
    b = np.logaddexp(log_a + np.log(0.99), floor)
    counted = Weighted(np.ones(ROWS), np.arange(ROWS) % PROBLEMS, PROBLEMS)
    _, gap = at_edge(edge_of(log_a.astype(np.float32), b.astype(np.float32)), counted)
    assert gap.value > 0
