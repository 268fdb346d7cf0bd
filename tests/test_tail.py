"""Any temperature from one store: the contract of docs/method.md, on rows of known shapes."""

import numpy as np
import pytest
from rows import BETAS, SHAPES, make_rows, plain_kl, plain_statistics, stored

from probing.analysis.decoding import statistics
from probing.analysis.moments import kl_nats
from probing.analysis.tail import interpolation_weights, range_of
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule, TailGrid

TEMPERATURES = (0.25, 0.37, 0.6, 1.0, 1.1, 0.7 * 1.3, 1.5, 1.1 * 1.5, 2.0)


@pytest.mark.parametrize(("vocabulary", "top_k"), [(49_152, 256), (250_000, 256)])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_temperature_within_the_contract(shape: str, vocabulary: int, top_k: int) -> None:
    rng = np.random.default_rng(5)
    first = make_rows(shape, vocabulary=vocabulary, rows=2, rng=rng)
    second = first + rng.normal(scale=0.3, size=first.shape).astype(np.float32)
    kept = stored([first, second], top_k=top_k)
    full = [first, second, ((first + second) / 2).astype(np.float32)]
    for temperature in TEMPERATURES:
        decoding = Decoding(temperature=temperature)
        for rows, plain_rows in zip(kept.distributions, full, strict=True):
            got = statistics(rows, decoding=decoding, rule=KindRule())
            for row, plain_row in enumerate(plain_rows):
                plain = plain_statistics(plain_row, decoding=decoding)
                assert got.top1_prob[row] == pytest.approx(plain.top1_prob, abs=1e-4)
                assert got.tail_mass[row] == pytest.approx(plain.tail_mass, abs=1e-4)
                assert got.excluded_mass[row] == pytest.approx(plain.excluded_mass, abs=1e-4)
                assert got.entropy_nats[row] == pytest.approx(plain.entropy_nats, abs=5e-3)
                if plain.deciding_gap > 1e-4:
                    assert got.nucleus_size[row] == plain.nucleus_size
                    fits = plain.nucleus_size_full <= top_k
                    assert got.nucleus_size_full[row] in (
                        {plain.nucleus_size_full} if fits else {plain.nucleus_size_full, np.inf}
                    )


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_at_any_pair_of_temperatures(shape: str) -> None:
    rng = np.random.default_rng(6)
    first = make_rows(shape, vocabulary=49_152, rows=2, rng=rng)
    second = first + rng.normal(scale=0.5, size=first.shape).astype(np.float32)
    kept = stored([first, second], top_k=256)
    a, b = kept.distributions[:2]
    for first_t, second_t in [(1.0, 1.0), (0.25, 0.25), (1.5, 1.5), (2.0, 2.0), (1.1, 1.6)]:
        got = kl_nats(a, b, kept.cross_mean[0][1], first_beta=1 / first_t, second_beta=1 / second_t)
        want = [
            plain_kl(x, y, first_t=first_t, second_t=second_t)
            for x, y in zip(first, second, strict=True)
        ]
        np.testing.assert_allclose(got, want, atol=5e-3)


def test_a_nucleus_that_does_not_fit_is_inf_never_the_store_s_size() -> None:
    rows = stored([make_rows("flat", vocabulary=5000, rows=3, rng=np.random.default_rng(1))],
                  top_k=64).distributions[0]  # fmt: skip
    got = statistics(rows, decoding=Decoding(top_k=0), rule=KindRule())
    assert np.isinf(got.nucleus_size).all()
    assert np.isnan(got.top1_prob_kept).all()
    assert np.isnan(got.excluded_mass).all()


def test_temperatures_outside_the_range_are_refused_where_a_tail_exists() -> None:
    rows = stored([make_rows("zipf", vocabulary=900, rows=2, rng=np.random.default_rng(2))],
                  top_k=64).distributions[0]  # fmt: skip
    for temperature in (0.2, 2.01, 5.0):
        with pytest.raises(OutsideContract, match=r"\[0.25, 2\].*got"):
            statistics(rows, decoding=Decoding(temperature=temperature), rule=KindRule())


def test_whole_vocabularies_and_greedy_are_exact_at_any_temperature() -> None:
    full = make_rows("laplace", vocabulary=60, rows=4, rng=np.random.default_rng(3))
    rows = stored([full], top_k=60).distributions[0]
    for temperature in (0.01, 0.2, 7.0):
        decoding = Decoding(temperature=temperature, top_k=0)
        got = statistics(rows, decoding=decoding, rule=KindRule())
        for row, plain_row in enumerate(full):
            plain = plain_statistics(plain_row, decoding=decoding)
            assert got.entropy_nats[row] == pytest.approx(plain.entropy_nats, abs=1e-9)
            assert got.nucleus_size_full[row] == plain.nucleus_size_full
    greedy = statistics(rows, decoding=Decoding(temperature=0), rule=KindRule())
    assert (greedy.top1_id == full.argmax(axis=1)).all()
    assert (greedy.nucleus_size == 1).all()
    assert (greedy.entropy_nats == 0).all()


def test_nodes_span_the_range_and_interpolate_polynomials_exactly() -> None:
    low, high = range_of(BETAS)
    assert low == pytest.approx(1 / TailGrid().temperature_max)
    assert high == pytest.approx(1 / TailGrid().temperature_min)
    values = np.log(BETAS) ** 7 - 3 * np.log(BETAS)
    for beta in (low, 0.9, 1.0, BETAS[4], high):
        want = np.log(beta) ** 7 - 3 * np.log(beta)
        assert interpolation_weights(BETAS, beta=beta) @ values == pytest.approx(want, abs=1e-9)
