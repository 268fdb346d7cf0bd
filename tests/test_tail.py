"""Any temperature from one store: the contract of docs/method.md, on rows of known shapes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import (
    BETAS,
    SHAPES,
    StoredRows,
    distributions_of,
    make_rows,
    plain_entropy,
    plain_kl,
    plain_statistics,
    softmax,
    stored,
)

from probing.analysis.decoding import Statistics, kept_probabilities, statistics
from probing.analysis.distributions import BLOCK_CELLS, Tail
from probing.analysis.moments import kl_nats, moments
from probing.analysis.tail import at_temperature, interpolation_weights, tail_betas
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule, TailGrid

RULE = KindRule()
K = 256
TEMPERATURES = (0.25, 0.37, 0.6, 0.7 * 0.8, 0.95, 1.1 * 1.5, 1.37, 1.9, 2.0)
"""Ends, inner ones, and products such as sampling at one temperature and evaluating at another."""


def pair(shape: str, *, vocabulary: int, rows: int = 2) -> StoredRows:
    """A model and one that is sharper and noisy, but agrees on which ids lead.

    So the union is no wider than K, and the tail keeps what it is hard to interpolate.
    """
    rng = np.random.default_rng(5)
    a = make_rows(shape, vocabulary=vocabulary, rows=rows, rng=rng)
    noise = rng.normal(scale=0.3, size=a.shape)
    edge = np.sort(a, axis=1)[:, -K - 2 :, None][:, 0]
    noise[a >= edge] = 0
    return stored([a, (a * 1.2 + np.minimum(noise, 0)).astype(np.float32)], top_k=K)


def test_the_hard_tail_has_both_levels() -> None:
    for kept in pair("two-level", vocabulary=49_152).distributions:
        assert kept.ids.shape[1] == K
        # Two ids on the upper level where T is low, thousands on the lower where it is high.
        assert (kept.tail.log_mass[:, -1] < 1).all()
        assert (kept.tail.log_mass[:, 0] > 4).all()


@pytest.mark.parametrize("vocabulary", [49_152, 250_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_temperature_is_within_the_contract(shape: str, vocabulary: int) -> None:
    rows = pair(shape, vocabulary=vocabulary, rows=2 if vocabulary < 100_000 else 1)
    for temperature in TEMPERATURES:
        decoding = Decoding(temperature=temperature)
        for kept, full in zip(rows.distributions, rows.full, strict=True):
            got = statistics(kept, decoding=decoding, rule=RULE)
            for position, row in enumerate(full):
                check_row(got, position, row, decoding=decoding)
        for (a, b), (p, q) in (((0, 1), (0, 1)), ((2, 1), (2, 1))):
            got_kl = kl_nats(
                rows.distributions[a],
                rows.distributions[b],
                cross_mean=rows.cross_means[a][b],
                temperature_a=temperature,
                temperature_b=temperature,
            )
            for position, value in enumerate(got_kl):
                wanted = plain_kl(
                    rows.full[p][position],
                    rows.full[q][position],
                    temperature_a=temperature,
                    temperature_b=temperature,
                )
                assert value == pytest.approx(wanted, abs=5e-3)


def check_row(got: Statistics, position: int, row: np.ndarray, *, decoding: Decoding) -> None:
    plain = plain_statistics(row, decoding=decoding, rule=RULE)
    for name in ("top1_prob", "tail_mass", "excluded_mass"):
        assert getattr(got, name)[position] == pytest.approx(getattr(plain, name), abs=1e-4), name
    for name in ("entropy_nats", "entropy_kept_nats"):
        assert getattr(got, name)[position] == pytest.approx(getattr(plain, name), abs=5e-3), name
    if plain.gap > 1e-4:
        assert got.nucleus_size[position] == plain.nucleus_size
    if plain.gap_full > 1e-4 or plain.nucleus_size_full > 2 * K:
        fits = plain.nucleus_size_full <= K
        allowed = {plain.nucleus_size_full} if fits else {plain.nucleus_size_full, np.inf}
        assert got.nucleus_size_full[position] in allowed


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_of_candidates_are_within_the_contract(shape: str) -> None:
    full = make_rows(shape, vocabulary=49_152, rows=2, rng=np.random.default_rng(2))
    rows = distributions_of(full, top_k=K, watched=(7, 40_000))
    for temperature in TEMPERATURES:
        got = kept_probabilities(rows, decoding=Decoding(temperature=temperature))
        for position, row in enumerate(full):
            wanted = softmax(row.astype(np.float64) / temperature)[rows.ids[position]]
            np.testing.assert_allclose(got.probability[position], wanted, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_at_any_pair_of_temperatures(shape: str) -> None:
    rows = pair(shape, vocabulary=49_152)
    for temperature_a, temperature_b in [
        (0.25, 2.0),
        (2.0, 0.25),
        (1.1, 1.6),
        (0.7, 1.0),
        (0.0, 1.0),
    ]:
        got = kl_nats(
            rows.distributions[0],
            rows.distributions[1],
            cross_mean=rows.cross_means[0][1],
            temperature_a=temperature_a,
            temperature_b=temperature_b,
        )
        for position, value in enumerate(got):
            wanted = plain_kl(
                rows.full[0][position],
                rows.full[1][position],
                temperature_a=temperature_a,
                temperature_b=temperature_b,
            )
            assert value == pytest.approx(wanted, abs=5e-3, rel=1e-4)


def test_a_model_against_itself_does_not_diverge() -> None:
    for shape in SHAPES:
        rows = stored(
            [make_rows(shape, vocabulary=3000, rows=3, rng=np.random.default_rng(1))], top_k=64
        )
        for temperature in (0.0, 0.31, 1.0, 1.7):
            got = kl_nats(
                rows.distributions[0],
                rows.distributions[0],
                cross_mean=rows.cross_means[0][0],
                temperature_a=temperature,
                temperature_b=temperature,
            )
            np.testing.assert_allclose(got, 0, atol=1e-6)


@given(seed=st.integers(0, 2**32), scale=st.floats(0.1, 8), t=st.floats(0.25, 2.0))
def test_moments_of_any_row(seed: int, scale: float, t: float) -> None:
    full = np.random.default_rng(seed).normal(scale=scale, size=(2, 700)).astype(np.float32)
    got = moments(distributions_of(full, top_k=16), temperature=t)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=Decoding(temperature=t))
        assert got.log_z[position] == pytest.approx(plain.log_z, abs=1e-4)
        assert got.entropy_nats[position] == pytest.approx(plain.entropy_nats, abs=5e-3)
        assert got.varentropy[position] == pytest.approx(plain.varentropy, abs=2e-2)


def test_varentropy_of_a_tail_alone_and_of_nearly_nothing() -> None:
    """Rows whose mass is nearly all in the tail, or nearly all outside it."""
    for shape in ("flat", "peaked"):
        full = make_rows(shape, vocabulary=49_152, rows=2, rng=np.random.default_rng(4))
        got = moments(distributions_of(full, top_k=8), temperature=1.3)
        for position, row in enumerate(full):
            plain = plain_statistics(row, decoding=Decoding(temperature=1.3))
            assert got.varentropy[position] == pytest.approx(plain.varentropy, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.2, 0.2499, 2.001, 5.0, 1e-4])
def test_temperatures_outside_are_refused_where_a_tail_exists(temperature: float) -> None:
    full = make_rows("zipf", vocabulary=900, rows=2, rng=np.random.default_rng(2))
    rows = distributions_of(full, top_k=64)
    decoding = Decoding(temperature=temperature)
    with pytest.raises(OutsideContract, match=r"must be in \[0.25, 2\].*got .*choose one inside"):
        statistics(rows, decoding=decoding, rule=RULE)
    with pytest.raises(OutsideContract):
        kept_probabilities(rows, decoding=decoding)
    with pytest.raises(OutsideContract):
        moments(rows, temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.2, 7.0, 500.0])
def test_whole_vocabularies_are_exact_at_any_temperature(temperature: float) -> None:
    full = make_rows("laplace", vocabulary=60, rows=4, rng=np.random.default_rng(3))
    rows = distributions_of(full, top_k=60)
    decoding = Decoding(temperature=temperature, top_k=0)
    got = statistics(rows, decoding=decoding, rule=RULE)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=decoding)
        assert got.entropy_nats[position] == pytest.approx(plain.entropy_nats, abs=1e-9)
        assert got.log_z[position] == pytest.approx(plain.log_z, rel=1e-12)
        assert got.nucleus_size_full[position] == plain.nucleus_size_full


def test_rows_with_and_without_a_tail_stand_side_by_side() -> None:
    """Masking all but a few ids leaves nothing outside the candidates of that row."""
    full = make_rows("laplace", vocabulary=400, rows=3, rng=np.random.default_rng(3))
    full[1, 30:] = -np.inf
    rows = distributions_of(full, top_k=64)
    assert np.isneginf(rows.tail.reference[1])
    got = statistics(rows, decoding=Decoding(temperature=0.9, top_k=0), rule=RULE)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=Decoding(temperature=0.9, top_k=0))
        assert got.entropy_nats[position] == pytest.approx(plain.entropy_nats, abs=1e-5)
        assert got.nucleus_size[position] in (plain.nucleus_size, np.inf)
    alone = statistics(rows.part(slice(1, 2)), decoding=Decoding(temperature=9.0), rule=RULE)
    assert alone.entropy_nats[0] == pytest.approx(
        plain_entropy(softmax(full[1].astype(np.float64) / 9)), abs=1e-9
    )


def test_far_logits_do_not_overflow() -> None:
    full = make_rows("laplace", vocabulary=400, rows=3, rng=np.random.default_rng(3)) * 30
    for shift in (-500.0, 500.0):
        rows = distributions_of((full + shift).astype(np.float32), top_k=64)
        got = statistics(rows, decoding=Decoding(temperature=0.25), rule=RULE)
        for position, row in enumerate((full + shift).astype(np.float32)):
            plain = plain_statistics(row, decoding=Decoding(temperature=0.25))
            assert got.top1_prob[position] == pytest.approx(plain.top1_prob, abs=1e-4)
            assert got.log_z[position] == pytest.approx(plain.log_z, rel=1e-9)


def test_nodes_span_the_range_and_weights_reproduce_polynomials_and_slopes() -> None:
    grid = TailGrid(nodes=9, temperature_min=0.3, temperature_max=4.0)
    betas = tail_betas(grid)
    assert (betas[0], betas[-1]) == (1 / 4.0, 1 / 0.3)
    assert (np.diff(betas) > 0).all()
    x = np.log(betas)
    for beta in (betas[0], 0.3, 1.0, betas[4], 2.9, betas[-1]):
        weights, at = interpolation_weights(betas, beta=beta), np.log(beta)
        assert weights.value @ (x**7 - 3 * x) == pytest.approx(at**7 - 3 * at)
        value, slope = x**15 - x, 15 * x**14 - 1
        both = weights.osculating_value @ value + weights.osculating_slope @ slope
        assert both == pytest.approx(at**15 - at, abs=1e-9)


def test_stored_nodes_come_back_as_they_are() -> None:
    full = make_rows("zipf", vocabulary=2000, rows=3, rng=np.random.default_rng(2))
    tail = distributions_of(full, top_k=64).tail
    for node, beta in enumerate(BETAS):
        got = at_temperature(tail, BETAS, temperature=1 / beta)
        np.testing.assert_allclose(got.log_mass, tail.log_mass[:, node], rtol=1e-6)
        np.testing.assert_allclose(got.mean, tail.mean[:, node], rtol=1e-6)
        np.testing.assert_allclose(got.square, tail.square[:, node], rtol=1e-5)


def test_betas_kept_in_float32_still_answer_both_ends() -> None:
    full = make_rows("zipf", vocabulary=900, rows=2, rng=np.random.default_rng(2))
    for low, high in ((0.3, 1.7), (0.7, 1.1), (0.6, 1.3)):
        betas = tail_betas(TailGrid(temperature_min=low, temperature_max=high))
        rows = distributions_of(full, top_k=64, betas=betas)
        rounded = replace(rows, betas=betas.astype(np.float32).astype(np.float64))
        for temperature in (low, high):
            np.testing.assert_allclose(
                moments(rounded, temperature=temperature).log_z,
                moments(rows, temperature=temperature).log_z,
                rtol=1e-6,
            )


def test_blocks_leave_no_trace() -> None:
    edge = BLOCK_CELLS // 24
    full = np.random.default_rng(0).normal(size=(edge + 3, 40)).astype(np.float32)
    rows = distributions_of(full, top_k=24)
    assert [block.start for block in rows.blocks()] == [0, edge]
    together = statistics(rows, decoding=Decoding(), rule=RULE)
    last = statistics(rows.part(slice(edge, None)), decoding=Decoding(), rule=RULE)
    np.testing.assert_array_equal(together.entropy_nats[edge:], last.entropy_nats)
    assert len(together.top1_id) == len(full)


def test_no_positions_give_no_statistics() -> None:
    full = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32)
    rows = distributions_of(full, top_k=24).part(slice(0, 0))
    assert len(statistics(rows, decoding=Decoding(), rule=RULE).top1_prob) == 0
    assert isinstance(rows.tail, Tail)
