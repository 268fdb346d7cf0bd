"""Full-vocabulary rows of known shapes, what the store keeps of them, and slow references."""

from dataclasses import dataclass

import numpy as np

from probing.analysis.distributions import Distributions, Tail
from probing.analysis.tail import tail_betas, tail_of_rows
from probing.settings import Decoding, TailGrid
from probing.vocabulary import PADDING_ID

BETAS = tail_betas(TailGrid())


def make_rows(shape: str, *, vocabulary: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 logits of shape (rows, vocabulary); `shape` is a key of `SHAPES`."""
    return SHAPES[shape](rows, vocabulary, rng).astype(np.float32)


def _noise(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(rows, vocabulary))


def _with_head(logits: np.ndarray, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for row in logits:
        row[rng.choice(len(row), len(head), replace=False)] = head + rng.normal(size=len(head)) / 4
    return logits


def _peaked(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return _with_head(2 * _noise(rows, vocabulary, rng), np.array([22.0, 14.0, 12.0]), rng)


def _forked(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    head = np.array([19.0, 18.8, 18.5, 18.3, 17.9, 16.0])
    return _with_head(2 * _noise(rows, vocabulary, rng), head, rng)


def _flat(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return _noise(rows, vocabulary, rng) / 10


def _zipf(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    ranks = np.array([rng.permutation(vocabulary) for _ in range(rows)])
    return -1.1 * np.log1p(ranks)


def _laplace(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    return rng.laplace(scale=1.5, size=(rows, vocabulary))


def _two_level(rows: int, vocabulary: int, rng: np.random.Generator) -> np.ndarray:
    """A block of 4,000 equal ids and the rest far below, so the tail's own balance tips with T."""
    depth = rng.uniform(2, 8, size=(rows, 1))
    logits = np.repeat(-depth, vocabulary, axis=1)
    for row in logits:
        row[rng.choice(vocabulary, min(4000, vocabulary // 4), replace=False)] = 0
    return logits + _noise(rows, vocabulary, rng) / 1000


SHAPES = {
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
        distributions: one per measure: the models, then the mean of models 0 and 1 when there are
            at least two.
        cross_mean: `cross_mean[m][j]`, over the tail of measure m, the mean of model j's logit
            minus model j's reference, at every node.
    """

    distributions: list[Distributions]
    cross_mean: list[list[np.ndarray]]


def stored(models: list[np.ndarray], *, top_k: int) -> StoredRows:
    """The union of the models' top-k ids and the tails beyond it, by plain NumPy."""
    rows, vocabulary = models[0].shape
    orders = [np.argsort(-logits, axis=1, kind="stable") for logits in models]
    unions = [_union([order[row, :top_k] for order in orders]) for row in range(rows)]
    width = max(len(union) for union in unions)
    ids = np.full((rows, width), PADDING_ID, dtype=np.int32)
    inside = np.zeros((rows, vocabulary), dtype=bool)
    for row, union in enumerate(unions):
        ids[row, : len(union)] = union
        inside[row, union] = True
    measures = list(models)
    if len(models) > 1:
        measures.append(((models[0] + models[1]) / 2).astype(np.float32))
    references = [np.where(inside, -np.inf, logits).max(axis=1) for logits in models]
    return StoredRows(
        distributions=[_distribution(logits, ids, inside) for logits in measures],
        cross_mean=[
            [
                _cross_mean(logits, model, inside, reference)
                for model, reference in zip(models, references, strict=True)
            ]
            for logits in measures
        ],
    )


def _union(tops: list[np.ndarray]) -> list[int]:
    best: dict[int, int] = {}
    for top in tops:
        for rank, token in enumerate(top.tolist()):
            best[token] = min(rank, best.get(token, rank))
    return sorted(best, key=lambda token: (best[token], token))


def _distribution(logits: np.ndarray, ids: np.ndarray, inside: np.ndarray) -> Distributions:
    taken = np.take_along_axis(logits, np.maximum(ids, 0).astype(np.int64), axis=1)
    tail = tail_of_rows(logits, inside, betas=BETAS)
    return Distributions(
        ids=ids,
        logits=np.where(ids == PADDING_ID, -np.inf, taken).astype(np.float32),
        tail=Tail(
            reference=tail.reference.astype(np.float32),
            log_mass=tail.log_mass,
            mean=tail.mean,
            square=tail.square,
        ),
        betas=BETAS,
    )


def _cross_mean(
    logits: np.ndarray, model: np.ndarray, inside: np.ndarray, reference: np.ndarray
) -> np.ndarray:
    means = np.zeros((len(logits), len(BETAS)))
    for row in range(len(logits)):
        outside = ~inside[row] & np.isfinite(logits[row])
        if not outside.any():
            continue
        own, other = logits[row, outside].astype(np.float64), model[row, outside]
        for node, beta in enumerate(BETAS):
            mass = np.exp(beta * (own - own.max()))
            means[row, node] = (mass * (other - reference[row])).sum() / mass.sum()
    return means


@dataclass(frozen=True)
class PlainStatistics:
    """`Statistics` of one full row, one number each."""

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
    deciding_gap: float
    """How near a cumulative sum comes to top_p: below the tolerance a size may differ by ties."""


def plain_statistics(row: np.ndarray, *, decoding: Decoding) -> PlainStatistics:
    """The definitions of method.md section 2, one step after the other, in float64."""
    scaled = row.astype(np.float64) / decoding.temperature
    top = scaled.max()
    log_z = top + np.log(np.exp(scaled - top).sum())
    p = np.exp(scaled - log_z)
    order = np.argsort(-p, kind="stable")
    ranked = p[order]
    k = decoding.top_k or len(p)
    kth = np.sort(scaled)[::-1][min(k, len(p)) - 1]
    in_top_k = scaled >= kth
    left = np.where(in_top_k, p, 0)[order] / p[in_top_k].sum()
    size = _prefix(left[left > 0], decoding.top_p)
    kept = ranked[:size] / ranked[:size].sum()
    positive = p[p > 0]
    surprise = -np.log(positive)
    entropy = float((positive * surprise).sum())
    sums = np.concatenate([np.cumsum(left), np.cumsum(ranked)])
    return PlainStatistics(
        top1_prob=float(ranked[0]),
        top1_id=int(order[0]),
        top1_prob_kept=float(kept[0]),
        nucleus_size=size,
        nucleus_size_full=_prefix(ranked, decoding.top_p),
        tail_mass=float(p[~in_top_k].sum()),
        excluded_mass=float(1 - ranked[:size].sum()),
        entropy_nats=entropy,
        varentropy=float((positive * (surprise - entropy) ** 2).sum()),
        entropy_kept_nats=float(-(kept * np.log(kept)).sum()),
        margin_nats=float(np.subtract(*np.sort(scaled)[-1:-3:-1])),
        close_tokens=int((ranked[:10] >= 0.25 * ranked[0]).sum()),
        log_z=float(log_z),
        deciding_gap=float(np.abs(sums - decoding.top_p).min()),
    )


def _prefix(ranked: np.ndarray, top_p: float) -> int:
    """Number of tokens whose strictly preceding mass is below top_p."""
    above = 0.0
    for count, mass in enumerate(ranked):
        if above >= top_p:
            return count
        above += mass
    return len(ranked)


def plain_kl(first: np.ndarray, second: np.ndarray, *, first_t: float, second_t: float) -> float:
    """KL(softmax(first / first_t) || softmax(second / second_t)) over full rows, nats."""
    logs = []
    for row, temperature in ((first, first_t), (second, second_t)):
        scaled = row.astype(np.float64) / temperature
        logs.append(scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum()))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum())
