"""Full-vocabulary rows of known shapes, what a run holds of them, and plain slow references.

Everything here is float64 over the whole vocabulary, one position after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from probing.analysis.distributions import Distributions
from probing.analysis.tail import cross_mean_of_rows, tail_betas, tail_of_rows
from probing.settings import GREEDY_BELOW, Decoding, KindRule, TailGrid
from probing.store.unit import measures
from probing.vocabulary import PADDING_ID

BETAS = tail_betas(TailGrid())

HIGH = 258
"""How many ids are on the upper level of a two-level row."""

Maker = Callable[[int, int, np.random.Generator], np.ndarray]


def make_rows(shape: str, *, vocabulary: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 logits of shape (rows, vocabulary); `shape` is a key of `SHAPES`."""
    return SHAPES[shape](rows, vocabulary, rng).astype(np.float32)


def _with_head(logits: np.ndarray, head: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    for row in logits:
        jitter = rng.normal(size=len(head)) / 4
        row[rng.choice(len(row), len(head), replace=False)] = np.array(head) + jitter
    return logits


def _peaked(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return _with_head(2 * rng.normal(size=(rows, vocabulary)), (22.0, 14.0, 12.0), rng)


def _forked(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    head = (19.0, 18.8, 18.5, 18.3, 17.9, 16.0)
    return _with_head(2 * rng.normal(size=(rows, vocabulary)), head, rng)


def _flat(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(rows, vocabulary)) / 10


def _zipf(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return -1.1 * np.log1p(np.array([rng.permutation(vocabulary) for _ in range(rows)]))


def _laplace(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return rng.laplace(scale=1.5, size=(rows, vocabulary))


def _two_level(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    """A few ids high, all others far below: as T rises, mass tips from the few to the many.

    `HIGH` ids are high: two more than the usual number of candidates, so that the tail beyond
    them has both levels, and tips as sharply as a tail can.
    """
    logits = rng.normal(size=(rows, vocabulary)) / 1000
    for row, gap in zip(logits, np.linspace(6, 10, rows), strict=True):
        high = rng.choice(vocabulary, min(HIGH, vocabulary // 4), replace=False)
        row -= gap
        row[high] += gap
    return logits


SHAPES: dict[str, Maker] = {
    "peaked": _peaked,
    "forked": _forked,
    "flat": _flat,
    "zipf": _zipf,
    "laplace": _laplace,
    "two-level": _two_level,
}


@dataclass(frozen=True)
class StoredRows:
    """What a run holds of some models' full rows.

    Attributes:
        names: of the measures, as `store.unit.measures` has them.
        full: every measure's logits over the vocabulary, (position, vocabulary).
        distributions: one per measure.
        cross_means: `cross_means[k][m]`, over the tail of measure k, the mean of measure m's
            logits relative to m's own reference, at every node.
    """

    names: tuple[str, ...]
    full: list[np.ndarray]
    distributions: list[Distributions]
    cross_means: list[list[np.ndarray]]


def distributions_of(
    logits: np.ndarray, *, top_k: int, betas: np.ndarray = BETAS, watched: Sequence[int] = ()
) -> Distributions:
    """What a run of one model holds: its top-k ids exactly, the rest as a tail."""
    return distributions_of_models([logits], top_k=top_k, betas=betas, watched=watched)[0]


def distributions_of_models(
    models: Sequence[np.ndarray],
    *,
    top_k: int,
    betas: np.ndarray = BETAS,
    watched: Sequence[int] = (),
) -> list[Distributions]:
    """One per measure: the models, then the means, over the union of the models' top-k ids."""
    chosen = _candidates(models, top_k=top_k, watched=watched)
    return [
        _distribution(logits, chosen, betas=betas, is_mean=index >= len(models))
        for index, logits in enumerate(_measured(models))
    ]


def stored(
    models: Sequence[np.ndarray],
    *,
    top_k: int,
    betas: np.ndarray = BETAS,
    watched: Sequence[int] = (),
) -> StoredRows:
    """As `distributions_of_models`, with the full rows and every cross mean."""
    inside = _candidates(models, top_k=top_k, watched=watched).inside
    full = _measured(models)
    return StoredRows(
        names=measures(tuple(f"model{m}" for m in range(len(models)))).names,
        full=full,
        distributions=distributions_of_models(models, top_k=top_k, betas=betas, watched=watched),
        cross_means=[
            [cross_mean_of_rows(own, other, inside, betas=betas) for other in full] for own in full
        ],
    )


def _measured(models: Sequence[np.ndarray]) -> list[np.ndarray]:
    mixtures = measures(tuple(f"model{m}" for m in range(len(models)))).weights
    means = [sum(w * x.astype(np.float64) for w, x in zip(mix, models, strict=True) if w)
             for mix in mixtures[len(models):]]  # fmt: skip
    return [*models, *means]


@dataclass(frozen=True)
class _Candidates:
    ids: np.ndarray
    inside: np.ndarray


def _candidates(models: Sequence[np.ndarray], *, top_k: int, watched: Sequence[int]) -> _Candidates:
    rows, vocabulary = models[0].shape
    unions = []
    for row in range(rows):
        best = dict.fromkeys(watched, vocabulary)
        for logits in models:
            for rank, token in enumerate(np.argsort(-logits[row], kind="stable")[:top_k].tolist()):
                best[token] = min(rank, best.get(token, rank))
        unions.append(sorted(best, key=lambda token: (best[token], token)))
    ids = np.full((rows, max(map(len, unions))), PADDING_ID, dtype=np.int32)
    inside = np.zeros((rows, vocabulary), dtype=bool)
    for row, union in enumerate(unions):
        ids[row, : len(union)] = union
        inside[row, union] = True
    return _Candidates(ids=ids, inside=inside)


def _distribution(
    logits: np.ndarray, chosen: _Candidates, *, betas: np.ndarray, is_mean: bool
) -> Distributions:
    taken = np.take_along_axis(logits, np.maximum(chosen.ids, 0).astype(np.int64), axis=1)
    return Distributions(
        ids=chosen.ids,
        logits=np.where(chosen.ids == PADDING_ID, -np.inf, taken).astype(np.float32),
        tail=tail_of_rows(logits, chosen.inside, betas=betas),
        betas=betas,
        is_mean=is_mean,
    )


@dataclass(frozen=True)
class PlainStatistics:
    """`Statistics` of one full row, one number each.

    `gap` and `gap_full` say how near a cumulative mass comes to top_p: where it is tiny, rounding
    decides the size.
    """

    top1_prob: float
    top1_id: int
    top1_prob_kept: float
    nucleus_size: int
    nucleus_size_full: int
    tail_mass: float
    excluded_mass: float
    entropy_nats: float
    varentropy: float
    entropy_kept_nats: float
    margin_nats: float
    close_tokens: int
    log_z: float
    gap: float
    gap_full: float


EXACT_NAMES = ("top1_id", "nucleus_size", "nucleus_size_full", "close_tokens")
"""Statistics that are counts or ids."""


def plain_statistics(
    row: np.ndarray, *, decoding: Decoding, rule: KindRule | None = None
) -> PlainStatistics:
    """The definitions, one step after the other, over the whole vocabulary."""
    rule = rule or KindRule()
    scaled = _scaled(row, temperature=decoding.temperature)
    p = softmax(scaled)
    order = np.argsort(-scaled, kind="stable")
    ranked = p[order]
    in_top_k = plain_top_k(scaled, top_k=decoding.top_k)
    left = ranked[in_top_k[order]] / p[in_top_k].sum()
    size = plain_nucleus_size(left, decoding.top_p)
    kept = ranked[:size] / ranked[:size].sum()
    leading = ranked[: rule.close_among]
    entropy = plain_entropy(p)
    positive = p[p > 0]
    first, second = scaled[order[:2]]
    return PlainStatistics(
        top1_prob=float(ranked[0]),
        top1_id=int(order[0]),
        top1_prob_kept=float(kept[0]),
        nucleus_size=size,
        nucleus_size_full=plain_nucleus_size(ranked[np.isfinite(scaled[order])], decoding.top_p),
        tail_mass=float(p[~in_top_k].sum()),
        excluded_mass=float(ranked[size:].sum()),
        entropy_nats=entropy,
        varentropy=float((positive * (-np.log(positive) - entropy) ** 2).sum()),
        entropy_kept_nats=plain_entropy(kept),
        margin_nats=float(first - second),
        close_tokens=int((leading >= rule.close_ratio * ranked[0]).sum()),
        log_z=float(np.log(np.exp(scaled - scaled.max()).sum()) + scaled.max()),
        gap=float(np.abs(np.cumsum(left) - decoding.top_p).min()),
        gap_full=float(np.abs(np.cumsum(ranked) - decoding.top_p).min()),
    )


def _scaled(row: np.ndarray, *, temperature: float) -> np.ndarray:
    """Logits over T; greedy leaves the largest, the lowest id of several."""
    row = row.astype(np.float64)
    if temperature >= GREEDY_BELOW:
        return row / temperature
    only = np.full(len(row), -np.inf)
    only[row.argmax()] = row.max()
    return only


def softmax(scaled: np.ndarray) -> np.ndarray:
    weight = np.exp(scaled - scaled.max())
    return weight / weight.sum()


def plain_entropy(p: np.ndarray) -> float:
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def plain_top_k(scaled: np.ndarray, *, top_k: int) -> np.ndarray:
    """Which ids are not below the k-th largest; 0 = all."""
    k = min(top_k or len(scaled), len(scaled))
    return (scaled >= np.sort(scaled)[::-1][k - 1]) & np.isfinite(scaled)


def plain_nucleus_size(ranked: np.ndarray, top_p: float) -> int:
    """How many descending masses have less than top_p ranked above them; 1 at least."""
    if top_p == 1:
        return len(ranked)
    above = np.concatenate([[0.0], np.cumsum(ranked)[:-1]])
    return max(1, int((above < top_p).sum()))


def plain_kept(row: np.ndarray, *, decoding: Decoding) -> np.ndarray:
    """Every id's probability after truncation; lower ids first among equals."""
    scaled = _scaled(row, temperature=decoding.temperature)
    p = softmax(scaled)
    size = plain_statistics(row, decoding=decoding).nucleus_size
    kept = np.zeros(len(p))
    chosen = np.argsort(-scaled, kind="stable")[:size]
    kept[chosen] = p[chosen] / p[chosen].sum()
    return kept


def plain_kl(a: np.ndarray, b: np.ndarray, *, temperature_a: float, temperature_b: float) -> float:
    """KL(softmax(a / T_a) || softmax(b / T_b)) over full rows, nats."""
    p = softmax(_scaled(a, temperature=temperature_a))
    q = softmax(_scaled(b, temperature=temperature_b))
    there = p > 0
    if (q[there] == 0).any():
        return float("inf")
    return float((p[there] * (np.log(p[there]) - np.log(q[there]))).sum())
