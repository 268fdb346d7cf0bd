"""Sequential decoding against a plain full-vocabulary computation, and its laws."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import (
    BETAS,
    EXACT_NAMES,
    PlainStatistics,
    distributions_of,
    distributions_of_models,
    plain_kept,
    plain_statistics,
    softmax,
)

from probing.analysis.decoding import (
    Statistics,
    kept_probabilities,
    nucleus_jaccard,
    own_ranks,
    probability_of,
    realised_logprob,
    statistics,
)
from probing.analysis.deltas import DELTA_NAMES, statistic_deltas
from probing.analysis.distributions import Distributions, Tail
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule
from probing.vocabulary import PADDING_ID

RULE = KindRule()
K = 40

decodings = st.builds(
    Decoding,
    temperature=st.floats(0.25, 2.0),
    top_k=st.sampled_from([0, 1, 2, 5, 20, K]),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.8, 0.95, 1.0]),
)


@st.composite
def full_rows(draw: st.DrawFn, *, gridded: bool | None = None) -> np.ndarray:
    """Rows over 40 to 400 ids; some on a coarse grid, so that ties are common."""
    vocabulary = draw(st.integers(40, 400))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.normal(scale=draw(st.sampled_from([0.5, 2.0, 6.0])), size=(3, vocabulary))
    if gridded or (gridded is None and draw(st.booleans())):
        rows = np.round(rows / 0.125) * 0.125
    return rows.astype(np.float32)


def whole(full: np.ndarray) -> Distributions:
    """All ids are candidates: nothing is left to a tail."""
    return distributions_of(full, top_k=full.shape[1])


@given(full_rows(), decodings)
def test_statistics_equal_the_plain_computation(full: np.ndarray, decoding: Decoding) -> None:
    got = statistics(distributions_of(full, top_k=K), decoding=decoding, rule=RULE)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=decoding, rule=RULE)
        check(got, position, plain, tolerance=1e-4)


@given(full_rows(), decodings)
def test_whole_vocabularies_are_exact(full: np.ndarray, decoding: Decoding) -> None:
    got = statistics(whole(full), decoding=decoding, rule=RULE)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=decoding, rule=RULE)
        check(got, position, plain, tolerance=1e-9)
        if decoding.top_p == 1 or plain.gap > 1e-6:
            assert np.isfinite(got.nucleus_size[position])
        if decoding.top_p == 1 or plain.gap_full > 1e-6:
            assert got.nucleus_size_full[position] == plain.nucleus_size_full


def check(got: Statistics, position: int, plain: PlainStatistics, *, tolerance: float) -> None:
    """Every statistic that is known is right; what is not known is inf or NaN, never wrong."""
    for field in fields(Statistics):
        value = getattr(got, field.name)[position]
        wanted = getattr(plain, field.name)
        if field.name.startswith("nucleus_size"):
            gap = plain.gap_full if field.name.endswith("full") else plain.gap
            assert value in (wanted, np.inf) or gap < 1e-6
        elif field.name in ("excluded_mass", "entropy_kept_nats", "top1_prob_kept"):
            near_edge = plain.gap < 1e-6
            assert value == pytest.approx(wanted, abs=tolerance) or np.isnan(value) or near_edge
        elif field.name in EXACT_NAMES:
            assert value == wanted, field.name
        elif field.name == "varentropy":
            assert value == pytest.approx(wanted, abs=max(1e-2 * (tolerance > 1e-9), 1e-9))
        elif field.name == "entropy_nats":
            assert value == pytest.approx(wanted, abs=max(5e-3 * (tolerance > 1e-9), 1e-9))
        else:
            assert value == pytest.approx(wanted, abs=tolerance) or np.isnan(value), field.name


@given(full_rows(gridded=False), decodings)
def test_what_can_be_known_is_known(full: np.ndarray, decoding: Decoding) -> None:
    got = statistics(distributions_of(full, top_k=K), decoding=decoding, rule=RULE)
    for position, row in enumerate(full):
        plain = plain_statistics(row, decoding=decoding, rule=RULE)
        in_whole_vocabulary = decoding.top_k == 0 and row.size > K
        known = plain.nucleus_size <= K and not (in_whole_vocabulary and decoding.top_p == 1)
        assert np.isfinite(got.nucleus_size[position]) == known or plain.gap < 1e-6
        full_fits = plain.nucleus_size_full <= K and (decoding.top_p < 1 or row.size <= K)
        assert np.isfinite(got.nucleus_size_full[position]) == full_fits or plain.gap_full < 1e-6
        assert np.isfinite(got.tail_mass[position])


@given(full_rows())
def test_greedy_leaves_one_token(full: np.ndarray) -> None:
    rows = distributions_of(full, top_k=K)
    for top_k, top_p, temperature in ((20, 0.95, 0.0), (0, 1.0, 9e-6), (1, 0.1, 0.0)):
        decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
        got = statistics(rows, decoding=decoding, rule=RULE)
        assert (got.top1_id == full.argmax(axis=1)).all()
        assert (got.log_z == full.max(axis=1)).all()
        assert np.isposinf(got.margin_nats).all()
        for name in ("top1_prob", "top1_prob_kept", "nucleus_size", "nucleus_size_full"):
            assert (getattr(got, name) == 1).all(), name
        assert (got.close_tokens == 1).all()
        for name in ("tail_mass", "excluded_mass", "entropy_nats", "varentropy"):
            assert (getattr(got, name) == 0).all(), name
        assert (got.entropy_kept_nats == 0).all()
        kept = kept_probabilities(rows, decoding=decoding)
        np.testing.assert_array_equal(kept.kept, rows.ids == got.top1_id[:, None])
        np.testing.assert_array_equal(kept.probability, kept.kept)
        np.testing.assert_array_equal(kept.rank, own_ranks(rows))


def test_small_temperatures_approach_greedy() -> None:
    full = np.random.default_rng(0).normal(size=(5, 50)).astype(np.float32)
    cold = statistics(whole(full), decoding=Decoding(temperature=1e-4, top_k=0), rule=RULE)
    assert (cold.nucleus_size == 1).all()
    np.testing.assert_allclose(cold.top1_prob, 1)


@given(full_rows(), st.floats(0.25, 2.0))
def test_tail_mass_falls_with_k_and_nucleus_grows_with_p(full: np.ndarray, t: float) -> None:
    rows = whole(full)

    def at(top_k: int, top_p: float) -> Statistics:
        decoding = Decoding(temperature=t, top_k=top_k, top_p=top_p)
        return statistics(rows, decoding=decoding, rule=RULE)

    tails = np.array([at(k, 0.9).tail_mass for k in (1, 2, 5, 10, 20, 40, 0)])
    assert (np.diff(tails, axis=0) <= 0).all()
    assert (tails[-1] == 0).all()
    by_p = [at(20, p) for p in (0.05, 0.3, 0.6, 0.9, 0.999, 1.0)]
    sizes = np.array([each.nucleus_size for each in by_p])
    assert (np.diff(sizes, axis=0) >= 0).all()
    assert (sizes[0] >= 1).all()
    assert (np.diff([each.excluded_mass for each in by_p], axis=0) <= 0).all()
    assert (by_p[-1].excluded_mass == by_p[-1].tail_mass).all()


@given(full_rows(), decodings)
def test_the_entropy_splits_over_the_nucleus(full: np.ndarray, decoding: Decoding) -> None:
    """H = h2(m) + m H(p|S) + (1 - m) H(p|not S), with m the mass of S."""
    rows = whole(full)
    got = statistics(rows, decoding=decoding, rule=RULE)
    kept = kept_probabilities(rows, decoding=decoding)
    for position in range(len(full)):
        outside = kept.probability[position][kept.kept[position] == 0]
        rest = outside.sum()
        of_rest = -(outside / rest * np.log(outside / rest)).sum() if rest > 0 else 0.0
        mass = 1 - got.excluded_mass[position]
        binary = -sum(x * np.log(x) for x in (mass, rest) if x > 0)
        split = binary + mass * got.entropy_kept_nats[position] + rest * of_rest
        assert split == pytest.approx(got.entropy_nats[position], abs=1e-7)


@given(full_rows(), decodings)
def test_kept_probabilities_are_the_plain_ones(full: np.ndarray, decoding: Decoding) -> None:
    rows = distributions_of(full, top_k=K, watched=(3, 17))
    got = statistics(rows, decoding=decoding, rule=RULE)
    kept = kept_probabilities(rows, decoding=decoding)
    known = np.isfinite(got.top1_prob_kept)
    assert (np.isfinite(kept.kept).all(axis=1) == known).all()
    np.testing.assert_allclose(kept.probability.max(axis=1), got.top1_prob, rtol=1e-12)
    np.testing.assert_allclose(kept.kept.max(axis=1)[known], got.top1_prob_kept[known], rtol=1e-12)
    sized = np.isfinite(got.nucleus_size)
    assert ((kept.kept > 0).sum(axis=1) == got.nucleus_size)[sized].all()
    for position, row in enumerate(full):
        ids = rows.ids[position]
        used = ids != PADDING_ID
        wanted = softmax(row.astype(np.float64) / decoding.temperature)[ids[used]]
        np.testing.assert_allclose(kept.probability[position, used], wanted, atol=1e-4)
        assert (kept.probability[position, ~used] == 0).all()
        if sized[position] and plain_statistics(row, decoding=decoding).gap > 1e-6:
            after = plain_kept(row, decoding=decoding)[ids[used]]
            np.testing.assert_allclose(kept.kept[position, used], after, atol=1e-9)


@given(full_rows())
def test_ranks_count_strictly_larger_logits(full: np.ndarray) -> None:
    rows = distributions_of(full, top_k=K, watched=(3, 17))
    for position, ranks in enumerate(own_ranks(rows)):
        reference = rows.tail.reference[position]
        for token, rank in zip(rows.ids[position], ranks, strict=True):
            seen = token != PADDING_ID and full[position, token] >= reference
            larger = int((full[position] > full[position, token]).sum())
            assert rank == (1 + larger if seen else 0)


@given(full_rows(), decodings, st.integers(0, 2**32))
def test_the_order_of_candidates_changes_nothing(
    full: np.ndarray, decoding: Decoding, seed: int
) -> None:
    rows = distributions_of(full, top_k=K)
    order = np.random.default_rng(seed).permuted(
        np.tile(np.arange(rows.ids.shape[1]), (len(full), 1)), axis=1
    )
    shuffled = replace(
        rows,
        ids=np.take_along_axis(rows.ids, order, axis=1),
        logits=np.take_along_axis(rows.logits, order, axis=1),
    )
    one, other = (statistics(each, decoding=decoding, rule=RULE) for each in (rows, shuffled))
    for field in fields(Statistics):
        np.testing.assert_allclose(
            getattr(one, field.name), getattr(other, field.name), rtol=1e-12, atol=1e-12
        )
    kept, moved = (kept_probabilities(each, decoding=decoding) for each in (rows, shuffled))
    np.testing.assert_array_equal(np.take_along_axis(kept.rank, order, axis=1), moved.rank)
    np.testing.assert_allclose(np.take_along_axis(kept.kept, order, axis=1), moved.kept)


@given(full_rows(), decodings)
def test_a_model_against_itself_gives_zero_deltas(full: np.ndarray, decoding: Decoding) -> None:
    a, b, mean = distributions_of_models([full, full], top_k=K)
    of_a, of_b, of_mean = (statistics(each, decoding=decoding, rule=RULE) for each in (a, b, mean))
    for others in (of_b, of_mean):
        deltas = statistic_deltas(of_a, others)
        assert deltas.names == DELTA_NAMES
        np.testing.assert_allclose(np.nan_to_num(deltas.values), 0, atol=1e-6)
    overlap = nucleus_jaccard(a, b, decoding=decoding)
    assert (np.isnan(overlap) | (overlap == 1)).all()


@given(full_rows(), decodings, st.integers(0, 2**32))
def test_swapping_models_flips_every_sign(full: np.ndarray, decoding: Decoding, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=full.shape).astype(np.float32)
    a, b, mean = distributions_of_models([full, full + noise], top_k=K)
    b_first, a_second, mean_again = distributions_of_models([full + noise, full], top_k=K)
    stats = [statistics(x, decoding=decoding, rule=RULE) for x in (a, b, b_first, a_second)]
    forth, back = statistic_deltas(stats[0], stats[1]), statistic_deltas(stats[2], stats[3])
    np.testing.assert_allclose(forth.values, -back.values, atol=1e-9)
    np.testing.assert_allclose(
        statistics(mean, decoding=decoding, rule=RULE).entropy_nats,
        statistics(mean_again, decoding=decoding, rule=RULE).entropy_nats,
    )
    np.testing.assert_array_equal(
        nucleus_jaccard(a, b, decoding=decoding),
        nucleus_jaccard(b_first, a_second, decoding=decoding),
    )


@given(full_rows(), st.integers(0, 2**32))
def test_overlap_is_that_of_the_plain_sets(full: np.ndarray, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=full.shape).astype(np.float32)
    a, b, _ = distributions_of_models([full, full + noise], top_k=K)
    decoding = Decoding(temperature=0.8)
    got = nucleus_jaccard(a, b, decoding=decoding)
    for position in range(len(full)):
        models = full[position], (full + noise)[position]
        if min(plain_statistics(row, decoding=decoding).gap for row in models) < 1e-6:
            continue
        in_a, in_b = (plain_kept(row, decoding=decoding) > 0 for row in models)
        assert got[position] == pytest.approx((in_a & in_b).sum() / (in_a | in_b).sum())


def test_ties_at_k_are_all_kept() -> None:
    full = np.array([[3.0, 2.0, 2.0, 2.0, 1.0, 0.0]], dtype=np.float32)
    got = statistics(whole(full), decoding=Decoding(top_k=2, top_p=1.0), rule=RULE)
    assert got.nucleus_size[0] == 4
    assert got.tail_mass[0] == pytest.approx(softmax(full[0].astype(np.float64))[4:].sum())


def test_ties_at_k_that_may_reach_into_the_tail_are_not_guessed() -> None:
    full = np.zeros((1, 300), dtype=np.float32)
    got = statistics(distributions_of(full, top_k=K), decoding=Decoding(), rule=RULE)
    assert got.top1_prob[0] == pytest.approx(1 / 300)
    assert got.entropy_nats[0] == pytest.approx(np.log(300), abs=1e-6)
    assert np.isinf(got.nucleus_size[0])
    for name in ("tail_mass", "excluded_mass", "top1_prob_kept", "entropy_kept_nats"):
        assert np.isnan(getattr(got, name)[0]), name
    exact = statistics(distributions_of(full, top_k=300), decoding=Decoding(), rule=RULE)
    assert exact.nucleus_size[0] == 285


def test_a_mass_that_equals_top_p_needs_no_further_token() -> None:
    masses = np.array([[0.5, 0.3, 0.15, 0.05]])
    rows = whole(np.log(masses).astype(np.float32))
    for top_p, size in ((0.5, 1), (0.51, 2), (0.8, 2), (0.95, 3), (0.9501, 4)):
        got = statistics(rows, decoding=Decoding(top_p=top_p), rule=RULE)
        assert (got.nucleus_size[0], got.nucleus_size_full[0]) == (size, size)


def test_top_p_is_a_share_of_the_top_k() -> None:
    masses = np.array([[0.4, 0.3, 0.2, 0.1]])
    rows = whole(np.log(masses).astype(np.float32))
    got = statistics(rows, decoding=Decoding(top_k=2, top_p=0.5), rule=RULE)
    # 0.4 / 0.7 is above one half, 0.4 alone is not.
    assert (got.nucleus_size[0], got.nucleus_size_full[0]) == (1, 2)
    assert got.tail_mass[0] == pytest.approx(0.3)
    assert got.excluded_mass[0] == pytest.approx(0.6)


def test_a_nucleus_that_does_not_fit_is_inf_never_the_number_of_candidates() -> None:
    full = (np.random.default_rng(1).normal(size=(3, 5000)) / 10).astype(np.float32)
    rows = distributions_of(full, top_k=64)
    got = statistics(rows, decoding=Decoding(top_k=0), rule=RULE)
    assert np.isinf(got.nucleus_size).all()
    assert np.isinf(got.nucleus_size_full).all()
    assert np.isnan(got.top1_prob_kept).all()
    assert np.isnan(got.excluded_mass).all()
    assert np.isnan(kept_probabilities(rows, decoding=Decoding(top_k=0)).kept).all()
    assert np.isinf(statistics(rows, decoding=Decoding(), rule=RULE).nucleus_size_full).all()


def test_with_both_truncations_off_everything_is_kept() -> None:
    full = np.random.default_rng(1).normal(size=(3, 5000)).astype(np.float32)
    rows = distributions_of(full, top_k=64)
    off = Decoding(top_k=0, top_p=1.0)
    got = statistics(rows, decoding=off, rule=RULE)
    assert np.isinf(got.nucleus_size).all()
    assert (got.excluded_mass == 0).all()
    np.testing.assert_array_equal(got.top1_prob_kept, got.top1_prob)
    np.testing.assert_array_equal(got.entropy_kept_nats, got.entropy_nats)
    kept = kept_probabilities(rows, decoding=off)
    np.testing.assert_array_equal(kept.kept, kept.probability)


def test_top_k_beyond_the_exact_ranks_is_refused_with_the_limit() -> None:
    full = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    rows = distributions_of(full, top_k=K)
    for ask in (statistics, kept_probabilities):
        more = {"rule": RULE} if ask is statistics else {}
        with pytest.raises(OutsideContract, match=r"at most .*\(40 at some.*got 41; lower it"):
            ask(rows, decoding=Decoding(top_k=41), **more)
    assert statistics(rows, decoding=Decoding(top_k=40), rule=RULE).nucleus_size.max() <= 40
    assert statistics(whole(full), decoding=Decoding(top_k=900), rule=RULE).tail_mass.max() == 0


def test_a_watched_id_far_down_does_not_count_as_a_rank() -> None:
    full = np.linspace(9, 0, 300, dtype=np.float32)[None, :]
    rows = distributions_of(full, top_k=K, watched=(290,))
    got = kept_probabilities(rows, decoding=Decoding())
    assert got.rank[0, rows.ids[0] == 290] == 0
    with pytest.raises(OutsideContract):
        statistics(rows, decoding=Decoding(top_k=41), rule=RULE)
    whole_nucleus = statistics(rows, decoding=Decoding(top_k=0, temperature=2.0), rule=RULE)
    assert np.isinf(whole_nucleus.nucleus_size[0])


def test_a_mean_whose_leading_ids_are_no_candidates_says_what_it_can() -> None:
    """Each model dislikes the other's favourites; what both half-like leads their mean."""
    a = np.full((1, 400), -9.0, dtype=np.float32)
    b = a.copy()
    a[0, :50], b[0, 50:100] = np.linspace(5, 4, 50), np.linspace(5, 4, 50)
    a[0, 100:103] = b[0, 100:103] = [3.5, 2.0, 1.0]
    *_, mean = distributions_of_models([a, b], top_k=K)
    full = (a[0].astype(np.float64) + b[0]) / 2
    plain = plain_statistics(full, decoding=Decoding(), rule=RULE)
    got = statistics(mean, decoding=Decoding(), rule=RULE)
    for name in ("top1_prob", "entropy_nats", "log_z"):
        assert getattr(got, name)[0] == pytest.approx(getattr(plain, name), abs=1e-4), name
    assert got.top1_id[0] == PADDING_ID
    assert np.isinf(got.nucleus_size[0])
    for name in ("margin_nats", "tail_mass", "close_tokens", "top1_prob_kept"):
        assert np.isnan(getattr(got, name)[0]), name
    greedy = statistics(mean, decoding=Decoding(temperature=0.0), rule=RULE)
    assert (greedy.top1_prob[0], greedy.entropy_nats[0]) == (1, 0)
    assert greedy.top1_id[0] == PADDING_ID
    assert np.isnan(probability_of(mean, got.top1_id, temperature=1.0)[0])


def test_the_second_rank_may_lie_in_the_tail() -> None:
    rows = Distributions(
        ids=np.array([[4, 9]], dtype=np.int32),
        logits=np.array([[3.0, 0.0]], dtype=np.float32),
        tail=Tail(
            reference=np.array([1.0], dtype=np.float32),
            log_mass=np.zeros((1, len(BETAS)), dtype=np.float32),
            mean=np.zeros((1, len(BETAS)), dtype=np.float32),
            square=np.zeros((1, len(BETAS)), dtype=np.float32),
        ),
        betas=BETAS,
        is_mean=True,
    )
    got = statistics(rows, decoding=Decoding(top_k=1, temperature=0.5), rule=RULE)
    assert got.margin_nats[0] == pytest.approx(4.0)
    assert got.close_tokens[0] == 1


@given(full_rows(), st.floats(0.25, 2.0), st.integers(0, 2**32))
def test_the_probability_of_one_id(full: np.ndarray, t: float, seed: int) -> None:
    rows = distributions_of(full, top_k=K)
    ids = np.random.default_rng(seed).integers(0, full.shape[1], size=len(full))
    got = probability_of(rows, ids, temperature=t)
    for position, token in enumerate(ids):
        if token in rows.ids[position]:
            wanted = softmax(full[position].astype(np.float64) / t)[token]
            assert got[position] == pytest.approx(wanted, abs=1e-4)
        else:
            assert np.isnan(got[position])
    own = statistics(rows, decoding=Decoding(temperature=t), rule=RULE)
    np.testing.assert_allclose(probability_of(rows, own.top1_id, temperature=t), own.top1_prob)
    greedy = probability_of(rows, own.top1_id, temperature=0.0)
    np.testing.assert_array_equal(greedy, 1.0)


def test_padding_is_no_token() -> None:
    full = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    close = full + np.float32(0.5) * full[:, ::-1]
    close[1] = full[1]
    rows = distributions_of_models([full, close], top_k=K)[0]
    assert rows.ids[1, -1] == PADDING_ID
    nothing = np.full(2, PADDING_ID)
    assert np.isnan(probability_of(rows, nothing, temperature=1.0)).all()
    kept = kept_probabilities(rows, decoding=Decoding(top_k=0, top_p=1.0))
    unused = rows.ids == PADDING_ID
    assert (kept.probability[unused] == 0).all()
    assert (kept.kept[unused] == 0).all()
    assert (kept.rank[unused] == 0).all()


def test_realised_logprob_is_the_log_softmax() -> None:
    full = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    rows = distributions_of(full, top_k=K)
    log_z = statistics(rows, decoding=Decoding(temperature=1.5), rule=RULE).log_z
    got = realised_logprob(full[:, 7], log_z=log_z, temperature=1.5)
    for position, row in enumerate(full):
        wanted = np.log(softmax(row.astype(np.float64) / 1.5)[7])
        assert got[position] == pytest.approx(wanted, abs=1e-6)
    greedy = statistics(rows, decoding=Decoding(temperature=0.0), rule=RULE).log_z
    top = np.append(full.max(axis=1)[:3], full[3, 7])
    np.testing.assert_array_equal(
        realised_logprob(top, log_z=greedy, temperature=0.0), [0, 0, 0, -np.inf]
    )


def test_close_tokens_count_among_the_leading_ones_only() -> None:
    masses = np.r_[np.full(12, 0.06), np.full(14, 0.02)][None, :]
    rows = whole(np.log(masses).astype(np.float32))
    assert statistics(rows, decoding=Decoding(), rule=RULE).close_tokens[0] == 10
    narrow = replace(RULE, close_among=3)
    assert statistics(rows, decoding=Decoding(), rule=narrow).close_tokens[0] == 3
    exactly = whole(np.log([[0.8, 0.2]]).astype(np.float32))
    assert statistics(exactly, decoding=Decoding(), rule=RULE).close_tokens[0] == 2


def test_different_candidates_are_not_compared_by_place() -> None:
    full = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    a, b = distributions_of(full, top_k=K), distributions_of(full[::-1], top_k=K)
    with pytest.raises(ValueError, match="same candidates, got different ids"):
        nucleus_jaccard(a, b, decoding=Decoding())
