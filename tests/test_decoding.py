"""Sequential decoding against a plain full-vocabulary computation, and its laws."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import PlainStatistics, plain_statistics, stored

from probing.analysis.decoding import (
    Statistics,
    kept_probabilities,
    nucleus_jaccard,
    probability_of,
    realised_logprob,
    statistics,
)
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule
from probing.vocabulary import PADDING_ID

RULE = KindRule()

decodings = st.builds(
    Decoding,
    temperature=st.floats(0.25, 2.0),
    top_k=st.sampled_from([0, 1, 2, 5, 20, 40]),
    top_p=st.sampled_from([0.1, 0.5, 0.8, 0.95, 1.0]),
)


@st.composite
def full_rows(draw: st.DrawFn) -> np.ndarray:
    """Rows over 40 to 400 ids; some on a coarse grid, so that ties are common."""
    vocabulary = draw(st.integers(40, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.normal(scale=draw(st.sampled_from([0.5, 2.0, 6.0])), size=(3, vocabulary))
    if draw(st.booleans()):
        rows = np.round(rows / 0.125) * 0.125
    return rows.astype(np.float32)


@given(full_rows(), decodings)
def test_statistics_equal_the_plain_computation(full: np.ndarray, decoding: Decoding) -> None:
    rows = stored([full], top_k=40).distributions[0]
    got = statistics(rows, decoding=decoding, rule=RULE)
    for row, plain_row in enumerate(full):
        _compare(got, row, plain_statistics(plain_row, decoding=decoding), decoding=decoding)


def _compare(got: Statistics, row: int, plain: PlainStatistics, *, decoding: Decoding) -> None:
    exact = {field.name: getattr(got, field.name)[row] for field in dataclasses.fields(got)}
    for name in ("top1_prob", "tail_mass", "margin_nats", "log_z"):
        assert exact[name] == pytest.approx(getattr(plain, name), abs=1e-4), name
    for name in ("entropy_nats", "varentropy"):
        assert exact[name] == pytest.approx(getattr(plain, name), abs=5e-3), name
    assert exact["top1_id"] == plain.top1_id
    assert exact["close_tokens"] == plain.close_tokens
    if plain.deciding_gap < 1e-6 and decoding.top_p < 1:
        return
    if np.isfinite(exact["nucleus_size_full"]):
        assert exact["nucleus_size_full"] == plain.nucleus_size_full
    if not np.isfinite(exact["nucleus_size"]):
        assert decoding.top_k == 0
        return
    assert exact["nucleus_size"] == plain.nucleus_size
    for name in ("top1_prob_kept", "excluded_mass", "entropy_kept_nats"):
        assert exact[name] == pytest.approx(getattr(plain, name), abs=1e-3), name


@given(full_rows(), st.floats(0.25, 2.0))
def test_tail_mass_falls_with_k_and_nucleus_grows_with_p(full: np.ndarray, t: float) -> None:
    rows = stored([full], top_k=40).distributions[0]

    def at(top_k: int, top_p: float) -> Statistics:
        decoding = Decoding(temperature=t, top_k=top_k, top_p=top_p)
        return statistics(rows, decoding=decoding, rule=RULE)

    tails = np.array([at(k, 0.9).tail_mass for k in (1, 2, 5, 10, 20, 40)])
    assert (np.diff(tails, axis=0) <= 1e-12).all()
    sizes = np.array([at(20, p).nucleus_size for p in (0.05, 0.3, 0.6, 0.9, 1.0)])
    assert (np.diff(sizes, axis=0) >= 0).all()
    assert (sizes[0] >= 1).all()


@given(full_rows(), decodings)
def test_kept_probabilities_agree_with_the_statistics(full: np.ndarray, decoding: Decoding) -> None:
    rows = stored([full], top_k=40).distributions[0]
    kept = kept_probabilities(rows, decoding=decoding)
    got = statistics(rows, decoding=decoding, rule=RULE)
    known = np.isfinite(got.nucleus_size)
    np.testing.assert_allclose(kept.kept_probability[known].sum(axis=1), 1, atol=1e-9)
    assert ((kept.kept_probability > 0).sum(axis=1) == got.nucleus_size)[known].all()
    np.testing.assert_allclose(kept.probability.max(axis=1), got.top1_prob)
    for row in range(len(full)):
        by_rank = np.argsort(-full[row], kind="stable")
        for rank in range(1, 40):
            assert rows.ids[row, kept.rank[row] == rank] == by_rank[rank - 1]


@given(full_rows(), decodings)
def test_a_model_overlaps_itself_wholly(full: np.ndarray, decoding: Decoding) -> None:
    rows = stored([full, full], top_k=40)
    a, b = rows.distributions[:2]
    overlap = nucleus_jaccard(a, b, decoding=decoding)
    assert (np.isnan(overlap) | (overlap == 1)).all()
    np.testing.assert_array_equal(
        probability_of(b, statistics(a, decoding=decoding, rule=RULE).top1_id, temperature=1.0),
        statistics(b, decoding=Decoding(), rule=RULE).top1_prob,
    )


def test_ties_at_k_are_all_kept() -> None:
    full = np.array([[3.0, 2.0, 2.0, 2.0, 1.0, 0.0]], dtype=np.float32)
    rows = stored([full], top_k=6).distributions[0]
    got = statistics(rows, decoding=Decoding(top_k=2, top_p=1.0), rule=RULE)
    assert got.nucleus_size[0] == 4


def test_top_k_beyond_the_exact_ranks_is_refused_with_the_limit() -> None:
    full = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    rows = stored([full], top_k=40).distributions[0]
    with pytest.raises(OutsideContract, match=r"at most 40.*got 41"):
        statistics(rows, decoding=Decoding(top_k=41), rule=RULE)


def test_an_id_that_is_no_candidate_has_no_probability() -> None:
    full = np.linspace(0, 9, 300, dtype=np.float32)[None, :]
    rows = stored([full], top_k=40).distributions[0]
    assert np.isnan(probability_of(rows, np.array([5]), temperature=1.0)).all()
    assert (rows.ids != PADDING_ID).all()


def test_realised_logprob_is_the_log_softmax() -> None:
    full = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    log_z = np.log(np.exp(full.astype(np.float64) / 1.5).sum(axis=1))
    got = realised_logprob(full[:, 7], log_z, temperature=1.5)
    np.testing.assert_allclose(got, full[:, 7].astype(np.float64) / 1.5 - log_z)
    assert np.isnan(realised_logprob(full[:, 7], log_z, temperature=0)).all()
