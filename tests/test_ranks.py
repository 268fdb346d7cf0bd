"""Ranks where logits tie, and watched ids: the stored arrays and what a reader makes of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_tokenizer

from probing.analysis.decoding import own_ranks
from probing.analysis.distributions import Distributions, Tail
from probing.lexicon import Lexicon
from probing.scoring.reduced import RowArrays, RowSettings
from probing.scoring.rows import COMPILED, GENERAL, reduce_rows
from probing.scoring.watching import watched_ids
from probing.store.unit import measures
from probing.tokens.adapter import TokenizerAdapter

PATHS = [GENERAL, COMPILED]
BETAS = np.array([0.5, 1.0, 2.0])
K = 5

levels = st.integers(0, 6)
"""Few enough that most logits of a row have equals, also across rank K."""


def reduced(
    models: list[np.ndarray], token_ids: list[int], *, path: str, watched: tuple[int, ...] = ()
) -> RowArrays:
    settings = RowSettings(
        top_k=K,
        watched=np.array(watched, dtype=np.int64),
        temperatures=(1.0,),
        betas=BETAS,
        measures=measures(tuple(f"model{m}" for m in range(len(models)))),
    )
    block = [torch.from_numpy(logits.astype(np.float32)) for logits in models]
    return reduce_rows(block, np.array(token_ids), settings=settings, path=path)


def plain_rank(row: np.ndarray, token: int) -> int:
    return 1 + sum(1 for logit in row if logit > row[token])


def distributions(got: RowArrays, model: int) -> Distributions:
    """As a reader has them."""
    tail = Tail(
        reference=got.tail_reference[:, model],
        log_mass=got.tail_log_mass[:, model],
        mean=got.tail_mean[:, model, model],
        square=got.tail_square[:, model],
    )
    return Distributions(
        ids=got.candidate_id, logits=got.logit[:, model], tail=tail, betas=BETAS, is_mean=False
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("token", "rank", "candidate"),
    [
        (3, 1, True),
        (0, 2, True),
        (7, 4, True),  # The lowest id of the four that tie across the edge of K = 5 …
        (9, 4, True),
        (10, 4, False),  # … and one of those that K leaves out: no rank of 6.
        (12, 4, False),
        (1, 8, False),  # Ties beyond K are ties too.
        (15, 8, False),
        (5, 16, False),
    ],
)
def test_a_realised_token_has_the_best_rank_of_its_equals(
    path: str, token: int, rank: int, candidate: bool
) -> None:
    row = np.full((1, 16), -1.0)
    for logit, ids in ((9, [3]), (8, [0, 11]), (5, [7, 9, 10, 12]), (-2, [6, 8, 13]), (-4, [5])):
        row[0, ids] = logit
    got = reduced([row, -row], [token], path=path)
    assert got.realised_rank[0].tolist() == [rank, plain_rank(-row[0], token)]
    alone = reduced([row, row], [token], path=path)
    assert alone.realised_rank[0].tolist() == [rank, rank]
    assert (token in alone.candidate_id[0]) == candidate


@given(
    data=st.data(),
    path=st.sampled_from(PATHS),
    vocabulary=st.integers(K + 1, 30),
    models=st.integers(2, 3),
)
def test_ranks_of_candidates_are_the_realised_ones_as_far_as_they_are_exact(
    data: st.DataObject, path: str, vocabulary: int, models: int
) -> None:
    draw = st.lists(levels, min_size=vocabulary, max_size=vocabulary)
    rows = [np.array([data.draw(draw)], dtype=float) for _ in range(models)]
    watched = tuple(sorted(data.draw(st.sets(st.integers(0, vocabulary - 1), max_size=4))))
    every = [reduced(rows, [token], path=path, watched=watched) for token in range(vocabulary)]
    for model, row in enumerate(rows):
        ranks = own_ranks(distributions(every[0], model))[0]
        ids = every[0].candidate_id[0]
        for token in range(vocabulary):
            found = every[token].realised_rank[0, model]
            assert found == plain_rank(row[0], token)
            assert every[token].realised_logit[0, model] == row[0, token]
            (place,) = np.nonzero(ids == token)
            if len(place) and ranks[place[0]]:
                assert ranks[place[0]] == found
            elif found <= K:
                # Only one that ties with a candidate across the edge may be left out.
                assert row[0, token] == np.sort(row[0])[::-1][K - 1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("few", [0, 3])
def test_of_many_equals_at_the_edge_the_lowest_ids_are_kept(path: str, few: int) -> None:
    rng = np.random.default_rng(few)
    row = rng.integers(0, 3, size=(1, 3000)).astype(float)
    row[0, rng.choice(3000, few, replace=False)] = 9.0
    got = reduced([row, row], [0], path=path)
    first = np.flatnonzero(row[0] == 9).tolist()
    first += np.flatnonzero(row[0] == 2).tolist()[: K - few]
    assert got.candidate_id[0].tolist() == first


@given(seed=st.integers(0, 2**32), path=st.sampled_from(PATHS))
def test_names_of_ids_do_not_matter_to_the_realised_rank(seed: int, path: str) -> None:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 5, size=(4, 20)).astype(float) for _ in range(2)]
    token = rng.integers(0, 20, size=4)
    shuffle = rng.permutation(20)
    moved = [row[:, np.argsort(shuffle)] for row in rows]
    one = reduced(rows, token.tolist(), path=path)
    other = reduced(moved, shuffle[token].tolist(), path=path)
    np.testing.assert_array_equal(one.realised_rank, other.realised_rank)
    np.testing.assert_array_equal(one.realised_logit, other.realised_logit)


@given(data=st.data(), path=st.sampled_from(PATHS), tied=st.booleans())
def test_watched_ids_are_at_every_position_once_whatever_their_rank(
    data: st.DataObject, path: str, tied: bool
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    vocabulary = data.draw(st.integers(2, 40))
    watched = sorted(data.draw(st.sets(st.integers(0, vocabulary - 1), max_size=6)))
    rows = [rng.normal(size=(6, vocabulary)).astype(np.float32) for _ in range(2)]
    rows = [np.round(row) for row in rows] if tied else rows
    got = reduced(rows, [0] * 6, path=path, watched=tuple(watched))
    for i, ids in enumerate(got.candidate_id):
        held = ids[ids >= 0].tolist()
        assert len(set(held)) == len(held)
        assert set(watched) <= set(held)
        # Nothing else but every model's top K is there.
        assert len(held) <= min(vocabulary, 2 * K + len(watched))
        for m, row in enumerate(rows):
            assert (got.logit[i, m, : len(held)] == row[i, held]).all()
            edge = np.sort(row[i])[::-1][min(K, vocabulary) - 1]
            assert set(np.flatnonzero(row[i] > edge).tolist()) <= set(held)


def test_at_most_so_many_ids_are_watched_and_the_first_to_claim_stay(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer(folder)
    tokenizer, lexicon = TokenizerAdapter.load(str(folder)), Lexicon.load()
    size = tokenizer.vocab_size
    every = watched_ids(tokenizer, lexicon, limit=10_000, vocabulary=size)
    assert len(every) >= 8
    before: set[int] = set()
    for limit in range(len(every) + 3):
        some = watched_ids(tokenizer, lexicon, limit=limit, vocabulary=size)
        assert len(some) == min(limit, len(every))
        assert list(some) == sorted(set(some))
        assert before <= set(some) <= set(every)
        before = set(some)
    (think_close,) = tokenizer.ids_of_word("</think>")
    assert watched_ids(tokenizer, lexicon, limit=1, vocabulary=size) == (think_close,)
    # An id that the model has no logit for cannot be watched.
    fewer = watched_ids(tokenizer, lexicon, limit=10_000, vocabulary=every[-1])
    assert fewer == every[:-1]
