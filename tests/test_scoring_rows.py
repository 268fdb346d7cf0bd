"""What is stored of full rows, against plain float64 arithmetic over the whole vocabulary."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from probing.scoring import tails as tails_module
from probing.scoring.reduced import RowArrays, RowSettings
from probing.scoring.rows import COMPILED, GENERAL, reduce_rows, row_path
from probing.store.unit import measures

BETAS = np.exp(np.linspace(np.log(0.5), np.log(4.0), 5))
NAMES = ("base", "ssd", "control")


@dataclass(frozen=True)
class Case:
    logits: np.ndarray  # (model, position, vocabulary) float32
    token_ids: np.ndarray
    settings: RowSettings


def case(
    *,
    models: int = 2,
    rows: int = 7,
    vocabulary: int = 83,
    top_k: int = 6,
    watched: tuple[int, ...] = (2, 40),
    temperatures: tuple[float, ...] = (1.0, 0.7),
    seed: int = 0,
) -> Case:
    rng = np.random.default_rng(seed)
    base = rng.normal(scale=3.0, size=(rows, vocabulary))
    logits = np.stack([base + 0.4 * rng.normal(size=base.shape) for _ in range(models)])
    return Case(
        logits=logits.astype(np.float32),
        token_ids=rng.integers(0, vocabulary, size=rows),
        settings=RowSettings(
            top_k=top_k,
            watched=np.array(watched, dtype=np.int64),
            temperatures=temperatures,
            betas=BETAS,
            measures=measures(NAMES[:models]),
        ),
    )


def reduced(given: Case, *, path: str = GENERAL) -> RowArrays:
    block = [torch.from_numpy(each.copy()) for each in given.logits]
    made = reduce_rows(block, given.token_ids, settings=given.settings, path=path)
    for logits, each in zip(block, given.logits, strict=True):
        np.testing.assert_array_equal(logits, each)
    return made


def ranked(row: np.ndarray) -> list[int]:
    return sorted(range(len(row)), key=lambda v: (-row[v], v))


def plain_candidates(given: Case, position: int) -> list[int]:
    best: dict[int, int] = {}
    depth = given.settings.top_k
    for model in given.logits:
        for rank, v in enumerate(ranked(model[position])[:depth], start=1):
            best[v] = min(rank, best.get(v, rank))
    for v in given.settings.watched.tolist():
        best.setdefault(v, min(depth, given.logits.shape[2]) + 1)
    return sorted(best, key=lambda v: (best[v], v))


def check_candidates(given: Case, got: RowArrays) -> None:
    models, rows, _ = given.logits.shape
    for i in range(rows):
        wanted = plain_candidates(given, i)
        ids = got.candidate_id[i]
        assert ids[: len(wanted)].tolist() == wanted
        assert (ids[len(wanted) :] == -1).all()
        for m in range(models):
            assert (got.logit[i, m, : len(wanted)] == given.logits[m, i, wanted]).all()
            assert np.isneginf(got.logit[i, m, len(wanted) :]).all()


def check_realised(given: Case, got: RowArrays) -> None:
    for m, model in enumerate(given.logits):
        for i, y in enumerate(given.token_ids):
            assert got.realised_logit[i, m] == model[i, y]
            assert got.realised_rank[i, m] == 1 + sum(model[i] > model[i, y])
            assert got.masked[i, m] == sum(np.isneginf(model[i]))


def plain_kl(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    terms = np.zeros_like(log_p)
    there = np.isfinite(log_p)
    terms[there] = np.exp(log_p[there]) * (log_p[there] - log_q[there])
    return terms.sum(axis=1)


def check_divergences(given: Case, got: RowArrays) -> None:
    wide = given.logits.astype(np.float64)
    for t, temperature in enumerate(given.settings.temperatures):
        scaled = wide / temperature
        log_z = logsumexp(scaled, axis=2)
        np.testing.assert_allclose(got.log_z[:, :, t], log_z.T, rtol=1e-6)
        log_p = scaled - log_z[:, :, None]
        for pair in range(1, len(wide)):
            a, b = log_p[0], log_p[pair]
            kl_ab, kl_ba = plain_kl(a, b), plain_kl(b, a)
            p, q = np.exp(a), np.exp(b)
            mid = (p + q) / 2
            log_mid = np.log(mid, out=np.zeros_like(mid), where=mid > 0)
            js = (
                (p * (np.where(p > 0, a, 0) - log_mid)).sum(axis=1)
                + (q * (np.where(q > 0, b, 0) - log_mid)).sum(axis=1)
            ) / 2
            for name, wanted in (
                ("kl_baseline_other", kl_ab),
                ("kl_other_baseline", kl_ba),
                ("js", js),
            ):
                np.testing.assert_allclose(
                    getattr(got, name)[:, pair - 1, t], wanted, rtol=1e-5, atol=1e-12
                )


def check_tails(given: Case, got: RowArrays) -> None:
    wide = given.logits.astype(np.float64)
    models, rows, vocabulary = wide.shape
    own_reference = np.full((rows, models), -np.inf)
    for i in range(rows):
        outside = np.setdiff1d(np.arange(vocabulary), got.candidate_id[i])
        for m in range(models):
            finite = wide[m, i, outside]
            finite = finite[np.isfinite(finite)]
            if finite.size:
                own_reference[i, m] = finite.max()
        for k, weights in enumerate(given.settings.measures.weights):
            x = sum(w * wide[m, i, outside] for m, w in enumerate(weights) if w)
            check_tail_row(
                got, i, k, x[np.isfinite(x)], wide[:, i, outside][:, np.isfinite(x)], own_reference
            )


def check_tail_row(
    got: RowArrays,
    i: int,
    k: int,
    x: np.ndarray,
    model_logits: np.ndarray,
    own_reference: np.ndarray,
) -> None:
    if not x.size:
        assert np.isneginf(got.tail_reference[i, k])
        for stored in (got.tail_log_mass[i, k], got.tail_mean[i, k], got.tail_square[i, k]):
            assert (stored == 0).all()
        return
    reference = x.max()
    np.testing.assert_allclose(got.tail_reference[i, k], reference, rtol=1e-6, atol=1e-6)
    for n, beta in enumerate(BETAS):
        weight = np.exp(beta * (x - reference))
        np.testing.assert_allclose(
            got.tail_log_mass[i, k, n], np.log(weight.sum()), rtol=1e-5, atol=2e-6
        )
        square = (weight * (x - reference) ** 2).sum() / weight.sum()
        np.testing.assert_allclose(got.tail_square[i, k, n], square, rtol=1e-4, atol=1e-6)
        for m, logits in enumerate(model_logits):
            there = np.isfinite(logits)
            mean = (weight[there] * (logits[there] - own_reference[i, m])).sum()
            mean /= max(weight[there].sum(), 1e-300)  # 0 where nothing was measured.
            np.testing.assert_allclose(got.tail_mean[i, k, m, n], mean, rtol=1e-4, atol=1e-5)


def check(given: Case) -> None:
    """Both paths, against plain arithmetic and against each other."""
    made = {path: reduced(given, path=path) for path in (GENERAL, COMPILED)}
    for got in made.values():
        check_candidates(given, got)
        check_realised(given, got)
        check_divergences(given, got)
        check_tails(given, got)
    for name, one, other in zip(RowArrays._fields, *made.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6, err_msg=name)


def test_this_machine_takes_the_compiled_path() -> None:
    assert row_path(torch.device("cpu")) == COMPILED
    assert row_path(torch.device("meta")) == GENERAL


@pytest.mark.parametrize("models", [2, 3])
@pytest.mark.parametrize("vocabulary", [83, 20_000])
def test_every_array_is_the_plain_float64_one(models: int, vocabulary: int) -> None:
    check(case(models=models, vocabulary=vocabulary, rows=4))


def test_rows_are_split_into_tiles_without_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    one = reduced(case(models=3))
    monkeypatch.setitem(tails_module.TILE_ELEMENTS, "cpu", 50)
    other = reduced(case(models=3))
    for name in ("tail_reference", "tail_log_mass", "tail_mean", "tail_square"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spare", [0, 1])
def test_no_tail_is_left_where_all_ids_are_candidates(spare: int) -> None:
    small = case(vocabulary=6 + spare, top_k=6, watched=(), rows=3)
    check(small)


def test_vocabulary_smaller_than_k() -> None:
    check(case(vocabulary=5, top_k=256, watched=(1,), rows=3))


def test_ties_at_the_edge_of_k_go_to_the_lowest_ids() -> None:
    tied = case(rows=5, vocabulary=60, top_k=6)
    rounded = Case(np.round(tied.logits), tied.token_ids, tied.settings)
    check(rounded)


@given(seed=st.integers(0, 10_000), step=st.sampled_from([0.5, 1.0, 4.0]))
def test_ties_anywhere(seed: int, step: float) -> None:
    drawn = case(seed=seed, rows=2, vocabulary=24, top_k=5, watched=(23,), models=3)
    check(Case(np.round(drawn.logits / step) * np.float32(step), drawn.token_ids, drawn.settings))


def test_masked_ids_are_counted_and_left_out() -> None:
    given = case(models=3, rows=6, vocabulary=50)
    given.logits[:, 0, 3:9] = -np.inf  # Masked alike by all.
    given.logits[1, 1, 10:30] = -np.inf  # By one model only.
    given.logits[0, 2, ::3] = -np.inf
    given.logits[2, 3, 5:] = -np.inf  # Fewer finite ids than K.
    given.token_ids[:4] = [4, 12, 1, 0]
    check(given)


def test_far_logits_do_not_overflow() -> None:
    given = case(rows=3)
    given.logits[:] = given.logits * 30 - 500
    check(given)


@pytest.mark.parametrize("path", [GENERAL, COMPILED])
def test_a_model_against_itself_diverges_nowhere(path: str) -> None:
    given = case(rows=4, vocabulary=500)
    given.logits[1] = given.logits[0]
    got = reduced(given, path=path)
    assert (got.kl_baseline_other == 0).all()
    assert (got.kl_other_baseline == 0).all()
    assert (got.js < 1e-15).all()
    np.testing.assert_array_equal(got.tail_log_mass[:, 0], got.tail_log_mass[:, 1])
    np.testing.assert_allclose(got.tail_log_mass[:, 0], got.tail_log_mass[:, 2], atol=1e-6)


@pytest.mark.parametrize("path", [GENERAL, COMPILED])
def test_swapping_models_swaps_every_array(path: str) -> None:
    given = case(rows=4)
    swapped = Case(given.logits[::-1].copy(), given.token_ids, given.settings)
    one, other = reduced(given, path=path), reduced(swapped, path=path)
    np.testing.assert_array_equal(one.candidate_id, other.candidate_id)
    np.testing.assert_array_equal(one.logit, other.logit[:, ::-1])
    np.testing.assert_allclose(one.kl_baseline_other, other.kl_other_baseline, rtol=1e-6)
    np.testing.assert_allclose(one.js, other.js, rtol=1e-6)
    # Products over both models at once are rounded by where a model stands in them.
    np.testing.assert_allclose(one.tail_mean[:, 0, 0], other.tail_mean[:, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(one.tail_mean[:, 0, 1], other.tail_mean[:, 1, 0], rtol=1e-6)


@pytest.mark.parametrize("path", [COMPILED, GENERAL])
@pytest.mark.parametrize("cut", [np.s_[:3], np.s_[:, :50]])
def test_rows_of_other_shapes_are_refused(path: str, cut: tuple[slice, ...] | slice) -> None:
    made = case(rows=4, vocabulary=60, top_k=6)
    block = list(torch.from_numpy(made.logits))
    block[1] = block[1][cut]
    # Without the tests' own checks of shapes, which a run does not have.
    reduce = inspect.unwrap(reduce_rows)
    with pytest.raises(ValueError, match="must give 4 rows of one width"):
        reduce(block, made.token_ids, settings=made.settings, path=path)
