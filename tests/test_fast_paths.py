"""What is computed in a shorter way gives what the plain way gives, on tied and masked rows too."""

import threading
import weakref
from collections.abc import Callable
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages_run import PagesRun

from probing.analysis.decoding import (
    Statistics,
    close_edge,
    general_statistics,
    own_ranks,
    statistics,
)
from probing.analysis.distributions import Distributions, Tail
from probing.analysis.events import LexiconTokens, close_places, leading_words
from probing.analysis.inference import TOTALS_BLOCK_ROWS, cluster_totals, numbered
from probing.analysis.moments import settle, top1_id
from probing.analysis.passes import sums_by
from probing.analysis.ranking import ranked
from probing.analysis.side_by_side import side_by_side
from probing.errors import OutsideContract
from probing.settings import Decoding, KindRule, Order
from probing.store.reader import BLOCK_ROWS, Run, block_edges
from probing.vocabulary import PADDING_ID
from tests.rows import BETAS

VOCABULARY = 60


@st.composite
def tied_rows(draw: st.DrawFn) -> Distributions:
    """Logits on a coarse grid, some masked, some places unused, with and without a tail."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width = draw(st.integers(0, 12)), draw(st.integers(1, 24))
    step = draw(st.sampled_from([0.25, 1.0, 1e-3]))
    logits = (np.round(rng.normal(0, 2, size=(rows, width)) / step) * step).astype(np.float32)
    logits[rng.random(logits.shape) < draw(st.sampled_from([0.0, 0.2]))] = -np.inf
    logits[:, 0] = np.maximum(logits[:, 0], 0)  # A model's row has some logit.
    ids = np.argsort(rng.random((rows, VOCABULARY)), axis=1)[:, :width].astype(np.int32)
    spare = draw(st.integers(0, width - 1))
    if spare:
        ids[:, width - spare :], logits[:, width - spare :] = PADDING_ID, -np.inf
    reference = np.full(rows, -np.inf, dtype=np.float32)
    # The tail's largest is one of the logits, so it ties with it.
    if draw(st.sampled_from([True, True, False])):
        reference = logits[np.arange(rows), rng.integers(0, width, size=rows)]
    nothing = np.zeros((rows, len(BETAS)))
    return Distributions(ids, logits, Tail(reference, nothing, nothing, nothing), BETAS)


@settings(max_examples=200)
@given(
    rows=tied_rows(),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    among=st.integers(1, 12),
    ratio=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_close_places_are_those_of_the_ranks(
    rows: Distributions, temperature: float, among: int, ratio: float
) -> None:
    rule = KindRule(close_among=among, close_ratio=ratio)
    settled, at = settle(rows, temperature=temperature)
    rank = own_ranks(settled)
    with np.errstate(invalid="ignore"):
        gap = (settled.logits - settled.logits.max(axis=1, keepdims=True)) / at
    plain = (rank > 0) & (rank <= among) & (gap >= close_edge(rule))
    np.testing.assert_array_equal(close_places(rows, temperature=temperature, rule=rule), plain)


@settings(max_examples=200)
@given(rows=tied_rows(), ratio=st.sampled_from([0.0, 0.25, 1.0]))
def test_close_tokens_count_the_close_places(rows: Distributions, ratio: float) -> None:
    rule = KindRule(close_ratio=ratio)
    counted = statistics(rows, decoding=Decoding(top_k=0, top_p=1.0), rule=rule).close_tokens
    places = close_places(rows, temperature=1.0, rule=rule).sum(axis=1)
    known = np.isfinite(counted)
    np.testing.assert_array_equal(counted[known], np.minimum(places, rule.close_among)[known])
    assert known[~np.isfinite(rows.tail.reference)].all()


@given(rows=tied_rows(), seed=st.integers(0, 1000))
def test_leading_words_look_at_every_leading_token(rows: Distributions, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = LexiconTokens(rng.random(VOCABULARY) < 0.2, rng.random(VOCABULARY) < 0.1)
    found = leading_words(rows, tokens=tokens, temperature=1.0, rule=KindRule())
    close = close_places(rows, temperature=1.0, rule=KindRule())
    for row, ids in enumerate(rows.ids):
        top, near = set(ids[found.top1[row]].tolist()), set(ids[close[row]].tolist())
        corrects, ends = (
            set(np.flatnonzero(mask).tolist())
            for mask in (tokens.self_correction, tokens.think_close)
        )
        assert found.top1_corrects[row] == bool(top & corrects)
        assert found.close_corrects[row] == bool(near & corrects)
        assert found.close_ends[row] == bool(near & ends)


@given(rows=tied_rows())
def test_top1_is_the_lowest_of_the_tied_ids(rows: Distributions) -> None:
    for found, ids, logits, reference in zip(
        top1_id(rows), rows.ids, rows.logits, rows.tail.reference, strict=True
    ):
        best = logits.max()
        assert found == (ids[logits == best].min() if best >= reference else PADDING_ID)


@given(rows=tied_rows())
def test_ranked_rows_count_what_is_used_and_what_is_exact(rows: Distributions) -> None:
    order = ranked(rows, temperature=1.0)
    used = np.isfinite(rows.logits)
    exact = used & (rows.logits >= rows.tail.reference[:, None])
    np.testing.assert_array_equal(order.finite, used.sum(axis=1))
    np.testing.assert_array_equal(order.exact, exact.sum(axis=1))


@given(
    clusters=st.lists(st.integers(0, 5), max_size=30)
    | st.lists(st.sampled_from([-7, 0, 3, 4, 90, 10**12]), max_size=30),
    offset=st.sampled_from([0, -5, 10**6]),
)
def test_clusters_are_numbered_in_their_order(clusters: list[int], offset: int) -> None:
    each = np.array(clusters, dtype=np.int64) + offset
    present, number = np.unique(each, return_inverse=True)
    found = numbered(each)
    np.testing.assert_array_equal(found.number, number)
    assert found.size == len(present)


@pytest.mark.parametrize("rows", [0, 1, 50, TOTALS_BLOCK_ROWS + 7])
def test_cluster_totals_are_plain_sums(rows: int) -> None:
    rng = np.random.default_rng(rows)
    values, weights = rng.normal(size=(rows, 3)), rng.random((rows, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[rng.random(values.shape) < 0.1] = np.inf
    clusters = rng.integers(0, 5, size=rows)
    totals = cluster_totals(values, weights, clusters, size=6)
    for cluster in range(6):
        for column in range(3):
            inside = (clusters == cluster) & np.isfinite(values[:, column])
            own, each = weights[inside, column], values[inside, column]
            assert totals.weight[cluster, column] == pytest.approx(own.sum())
            assert totals.value[cluster, column] == pytest.approx((own * each).sum())


def test_results_come_in_order_whichever_is_done_first() -> None:
    second_done = threading.Event()

    def work(block: int) -> int:
        if block == 0:
            assert second_done.wait(timeout=30)
        if block == 1:
            second_done.set()
        return 10 * block

    assert side_by_side(work, range(6), threads=2) == [0, 10, 20, 30, 40, 50]


def test_one_thread_is_the_own_one() -> None:
    own = threading.get_ident()
    assert set(side_by_side(lambda _: threading.get_ident(), range(3), threads=1)) == {own}
    assert side_by_side(lambda _: threading.get_ident(), range(1), threads=4) == [own]
    assert side_by_side(str, []) == []


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_error_is_raised(count: int) -> None:
    def work(block: int) -> int:
        if block in (2, 4):
            raise ValueError(f"block {block}")
        return block

    with pytest.raises(ValueError, match="block 2"):
        side_by_side(work, range(6), threads=count)


def test_statistics_of_a_run_are_those_of_its_rows(run: Run) -> None:
    assert len(run.row_blocks()) > 1
    decoding, rule = Decoding(temperature=0.8, top_k=5), KindRule()
    found = run.computed_statistics(0, decoding=decoding, rule=rule)
    assert len(found.top1_id) == len(run)
    for rows in (np.array([0]), np.arange(BLOCK_ROWS - 3, BLOCK_ROWS + 3)):
        part = run.computed_statistics(0, decoding=decoding, rule=rule, rows=rows)
        for field in fields(Statistics):
            whole = getattr(found, field.name)[rows]
            # A product of one row is rounded otherwise than that of many.
            np.testing.assert_allclose(whole, getattr(part, field.name), rtol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-10, 10) | st.just(np.nan)), max_size=40))
def test_sums_of_groups_are_added_in_order(members: list[tuple[int, float]]) -> None:
    group = np.array([one for one, _ in members], dtype=np.int64)
    values = np.array([value for _, value in members], dtype=np.float64)
    expected = [0.0] * 7
    for one, value in members:
        expected[one] += value
    np.testing.assert_array_equal(sums_by(group, values, groups=7), expected)


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.02])
def test_where_top_tokens_are_known_the_rest_is_the_same(
    written: PagesRun, order: Order, temperature: float, min_p: float
) -> None:
    """Ids of candidates are then not read."""
    decoding = Decoding(temperature=temperature, top_k=5, order=order, min_p=min_p)
    rule, run = KindRule(), written.open()
    measures = [0, 1, run.measures.names[-1]]
    run.statistics_of(measures, decoding=Decoding(), rule=rule)
    known = run.statistics_of(measures, decoding=decoding, rule=rule)
    for measure, found in zip(measures, known, strict=True):
        afresh = run.computed_statistics(measure, decoding=decoding, rule=rule)
        for field in fields(Statistics):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(afresh, field.name))
        assert (found.top1_id != PADDING_ID).any()


@settings(max_examples=300)
@given(
    rows=tied_rows(),
    is_mean=st.booleans(),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 20]),
    top_p=st.sampled_from([0.3, 0.95, 1.0]),
    rule=st.builds(
        KindRule, close_among=st.integers(1, 12), close_ratio=st.sampled_from([0.0, 0.25, 1.0])
    ),
)
def test_one_pass_finds_what_several_steps_find(
    rows: Distributions,
    is_mean: bool,
    temperature: float,
    top_k: int,
    top_p: float,
    rule: KindRule,
) -> None:
    rows = replace(rows, is_mean=is_mean)
    decoding = Decoding(temperature=temperature, top_k=top_k, top_p=top_p)

    def asked(how: Callable[..., Statistics]) -> Statistics | str:
        try:
            return how(rows, decoding=decoding, rule=rule)
        except OutsideContract as error:
            return str(error)

    found, plain = asked(statistics), asked(general_statistics)
    if isinstance(plain, str):
        assert found == plain
        return
    assert isinstance(found, Statistics)
    for field in fields(Statistics):
        own, expected = getattr(found, field.name), getattr(plain, field.name)
        np.testing.assert_allclose(own, expected, rtol=1e-12, atol=1e-12, err_msg=field.name)


def test_blocks_are_whole_shards_where_they_fit() -> None:
    shards = np.repeat(np.arange(6), [3, 1, 4, 9, 2, 1])
    assert block_edges(shards, most=5) == [0, 4, 8, 13, 17, 20]
    assert block_edges(shards[:0], most=5) == [0, 0]


def test_stored_statistics_hold_no_more_than_their_own(written: PagesRun) -> None:
    """Whoever is let go takes its arrays along, though all are read together."""
    run = written.open()
    assert run.finished is not None
    one, other, *_ = run.finished.statistics(range(len(run.measures.names)))
    kept, gone = one.entropy_nats, weakref.ref(other)
    assert kept.base is None
    assert other.entropy_nats.base is None
    del other, _
    assert gone() is None
    np.testing.assert_array_equal(one.varentropy, run.default_statistics(0).varentropy)
