"""What sequential decoding sees: every statistic of one distribution, and what truncation keeps.

Source: docs/method.md, Decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from probing.analysis.distributions import Distributions, Tail
from probing.analysis.fast_statistics import COLUMNS, Asked, fast_statistics
from probing.analysis.moments import (
    LOWEST,
    kl_nats,
    moments_of,
    require_same_candidates,
    settle,
    tailed_rows,
    temper,
    top1_id,
)
from probing.analysis.passes import sums_by
from probing.analysis.ranking import (
    EDGE_TOLERANCE,
    Prefix,
    Ranked,
    nucleus_prefix,
    ranked,
    ranked_in_order,
    top_k_prefix,
    truncation,
)
from probing.analysis.tail import at_temperature
from probing.settings import GREEDY_BELOW, Decoding, KindRule
from probing.vocabulary import PADDING_ID, CandidateLogits, PerPosition, PositionIds


@dataclass(frozen=True)
class Statistics:
    """Per position, of one distribution under one decoding (method.md section 2). float64.

    NaN where the candidates cannot tell: the nucleus of a switched-off top-k that does not fit
    into them, ties at k that may reach into the tail, a mean whose own top ids lie outside.

    Attributes:
        top1_prob: the largest probability at T, before truncation.
        top1_id: its id, the lowest of tied ones; `PADDING_ID` where it is no candidate.
        top1_prob_kept: the same after truncation and renormalisation.
        nucleus_size: tokens kept by top-k and top-p; inf = more than the candidates can tell.
        nucleus_size_full: smallest prefix with mass >= top_p, without top-k; inf likewise.
        tail_mass: mass outside the top k.
        excluded_mass: mass outside the nucleus.
        entropy_nats, varentropy: of the full distribution at T.
        entropy_kept_nats: of the renormalised nucleus.
        margin_nats: log-odds of rank 1 over rank 2; inf where only one token has mass.
        close_tokens: tokens among the leading ones with a sizeable share of `top1_prob`.
        log_z: logsumexp of logits / T; of greedy, the largest logit.
    """

    top1_prob: PerPosition
    top1_id: PositionIds
    top1_prob_kept: PerPosition
    nucleus_size: PerPosition
    nucleus_size_full: PerPosition
    tail_mass: PerPosition
    excluded_mass: PerPosition
    entropy_nats: PerPosition
    varentropy: PerPosition
    entropy_kept_nats: PerPosition
    margin_nats: PerPosition
    close_tokens: PerPosition
    log_z: PerPosition

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


def statistics(rows: Distributions, *, decoding: Decoding, rule: KindRule) -> Statistics:
    """Every statistic at every position.

    Args:
        rows: One distribution per position.
        decoding: T, top-k, top-p.
        rule: Says which tokens count as close.

    Raises:
        OutsideContract: the temperature lies outside the grid's range, or `top_k` exceeds the
            exactly known ranks, where a tail exists.
    """
    parts = [
        _statistics_block(rows.part(block), decoding=decoding, rule=rule) for block in rows.blocks()
    ]
    return joined(parts)


def make_ready() -> None:
    """Compile what tables need, or load it: whoever asks first would wait."""
    ids, logits = np.zeros((1, 1), dtype=np.int32), np.zeros((1, 1), dtype=np.float32)
    nothing = np.zeros((1, 2))
    tail = Tail(np.zeros(1, dtype=np.float32), nothing, nothing, nothing)
    row = Distributions(ids, logits, tail, np.array([0.5, 2.0]))
    statistics(row, decoding=Decoding(top_k=1), rule=KindRule())
    kl_nats(row, row, cross_mean=nothing, temperature_a=1.0, temperature_b=1.0)
    sums_by(np.zeros(1, dtype=np.int64), np.zeros(1), groups=1)
    sums_by(np.zeros(1, dtype=np.int64), np.broadcast_to(0.0, 1), groups=1)  # Not to write into.


def joined(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of rows one part after the other."""
    if len(parts) == 1:
        return parts[0]
    return Statistics(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Statistics)
        }
    )


def _statistics_block(rows: Distributions, *, decoding: Decoding, rule: KindRule) -> Statistics:
    swift = None
    if decoding.order == "sequential" and decoding.min_p == 0:
        swift = _in_one_pass(rows, decoding=decoding, rule=rule)
    return swift or general_statistics(rows, decoding=decoding, rule=rule)


def _in_one_pass(rows: Distributions, *, decoding: Decoding, rule: KindRule) -> Statistics | None:
    """None where `general_statistics` says what is wrong."""
    settled = settle(rows, temperature=decoding.temperature)
    tail = at_temperature(settled.rows.tail, rows.betas, temperature=settled.temperature)
    asked = Asked(
        top_k=decoding.top_k,
        top_p=float(decoding.top_p),
        tolerance=EDGE_TOLERANCE,
        close_edge=close_edge(rule),
        close_among=rule.close_among,
        lowest=LOWEST,
        is_mean=rows.is_mean,
    )
    found = fast_statistics(tailed_rows(settled, tail), rows.ids, asked)
    if found is None:
        return None
    columns, ids = found
    return Statistics(top1_id=ids, **dict(zip(COLUMNS, columns, strict=True)))


def general_statistics(rows: Distributions, *, decoding: Decoding, rule: KindRule) -> Statistics:
    """As `statistics`, of one block, whatever the order of the decoding."""
    order = ranked(rows, temperature=decoding.temperature)
    kept = truncation(order, decoding=decoding)
    everything = top_k_prefix(order, top_k=0)
    full = nucleus_prefix(order, within=everything, top_p=decoding.top_p)
    whole = moments_of(order.tempered)
    total = order.total
    return Statistics(
        # The largest weight is exp(0), be it a candidate's or the tail's.
        top1_prob=1 / total,
        top1_id=top1_id(rows),
        top1_prob_kept=1 / kept.nucleus.weight,
        nucleus_size=kept.nucleus.size,
        nucleus_size_full=full.size,
        tail_mass=mass_outside(kept.top_k, total),
        excluded_mass=mass_outside(kept.nucleus, total),
        entropy_nats=whole.entropy_nats,
        varentropy=whole.varentropy,
        entropy_kept_nats=entropy_of_prefix(order, kept.nucleus, whole=whole.entropy_nats),
        margin_nats=_margin(order),
        close_tokens=_close_tokens(order, rule=rule),
        log_z=whole.log_z,
    )


def mass_outside(prefix: Prefix, total: PerPosition) -> PerPosition:
    """Probability outside a prefix; `total` is that of the same `Ranked`."""
    rest: PerPosition = np.maximum(total - prefix.weight, 0.0) / total
    return rest


def entropy_of_prefix(order: Ranked, nucleus: Prefix, *, whole: PerPosition) -> PerPosition:
    """Entropy (nats) of the renormalised prefix.

    Args:
        order: the rows.
        nucleus: a prefix of them.
        whole: entropy of the whole distribution, which is the prefix's where that is everything.
    """
    known = np.where(np.isfinite(nucleus.size), nucleus.size, 0)
    # No further than the largest nucleus; rows whose size is not known are not summed.
    most = int(known.max(initial=0))
    inside = np.arange(most) < known[:, None]
    scaled = np.where(inside, order.tempered.scaled[:, :most], 0.0)
    mean = np.einsum("pc,pc->p", order.tempered.weight[:, :most], scaled) / nucleus.weight
    entropy = np.maximum(np.log(nucleus.weight) - mean, 0.0)
    beyond = np.isinf(nucleus.size) & np.isfinite(nucleus.weight)
    return np.where(beyond, whole, entropy)


def _margin(order: Ranked) -> PerPosition:
    """Rank 2 may lie in the tail (only under a mean); rank 1 there leaves rank 2 unknown."""
    second = order.tempered.tail_scaled
    if order.logits.shape[1] > 1:
        second = np.maximum(second, order.tempered.scaled[:, 1])
    return np.where(order.exact > 0, -second, np.nan)


def _close_tokens(order: Ranked, *, rule: KindRule) -> PerPosition:
    edge = close_edge(rule)
    close = (order.tempered.scaled[:, : rule.close_among] >= edge).sum(axis=1)
    hidden = order.has_tail & (order.tempered.tail_scaled >= edge)
    unknown = hidden & (order.exact < rule.close_among)
    return np.where(unknown, np.nan, np.minimum(close, order.exact))


def close_edge(rule: KindRule) -> float:
    """How far below the largest a close token's logit / T may lie; a share of 0 takes all."""
    share = np.log(rule.close_ratio) if rule.close_ratio > 0 else -np.inf
    return float(share - EDGE_TOLERANCE)


@dataclass(frozen=True)
class Kept:
    """Per candidate, aligned with the candidate axis of the rows it came from.

    Attributes:
        probability: at T, over the whole vocabulary, before truncation; 0 at unused places.
        kept: after truncation and renormalisation, 0 if cut; NaN in rows where the candidates
            cannot tell what is kept.
        rank: 1 + the number of tokens with a strictly larger logit; 0 = beyond what is exact.
    """

    probability: CandidateLogits
    kept: CandidateLogits
    rank: Int[np.ndarray, "position candidate"]


def kept_probabilities(rows: Distributions, *, decoding: Decoding) -> Kept:
    """Probabilities of every candidate before and after truncation, and its rank.

    Between equal logits at an edge, lower ids are kept first.

    Raises:
        OutsideContract: as `statistics`.
    """
    settled, temperature = settle(rows, temperature=decoding.temperature)
    order = _descending(settled)
    sorted_rows = replace(
        settled,
        ids=np.take_along_axis(rows.ids, order, axis=1),
        logits=np.take_along_axis(settled.logits, order, axis=1),
    )
    in_order = ranked_in_order(sorted_rows, temperature=temperature)
    nucleus = truncation(in_order, decoding=decoding).nucleus
    weight = in_order.tempered.weight
    left = np.where(nucleus.places(in_order), weight, 0.0) / nucleus.weight[:, None]
    probability, kept = np.empty_like(weight), np.empty_like(weight)
    np.put_along_axis(probability, order, weight / in_order.total[:, None], axis=1)
    np.put_along_axis(kept, order, left, axis=1)
    return Kept(probability=probability, kept=kept, rank=own_ranks(rows))


def _descending(rows: Distributions) -> Int[np.ndarray, "position candidate"]:
    """The order of descending logit, then ascending id."""
    by_id = np.argsort(rows.ids, axis=1, kind="stable")
    by_logit = np.argsort(-np.take_along_axis(rows.logits, by_id, axis=1), axis=1, kind="stable")
    return np.take_along_axis(by_id, by_logit, axis=1)


def own_ranks(rows: Distributions) -> Int[np.ndarray, "position candidate"]:
    """1 + the number of strictly larger logits in the whole row; 0 = beyond what is exact."""
    order = np.argsort(-rows.logits, axis=1, kind="stable")
    in_order = np.take_along_axis(rows.logits, order, axis=1)
    places = np.broadcast_to(np.arange(in_order.shape[1]), in_order.shape)
    starts = np.zeros(in_order.shape, dtype=np.int64)
    starts[:, 1:] = np.where(in_order[:, 1:] != in_order[:, :-1], places[:, 1:], 0)
    competition = np.maximum.accumulate(starts, axis=1) + 1
    ranks = np.empty_like(competition)
    np.put_along_axis(ranks, order, competition, axis=1)
    known = (rows.logits >= rows.tail.reference[:, None]) & np.isfinite(rows.logits)
    return np.where(known, ranks, 0)


def probability_of(rows: Distributions, ids: PositionIds, *, temperature: float) -> PerPosition:
    """The probability at T of one given id per position, before truncation.

    NaN where the id is no candidate of the row (`PADDING_ID` never is).

    Raises:
        OutsideContract: the temperature lies outside the grid's range, where a tail exists.
    """
    parts = []
    for block in rows.blocks():
        part, wanted = rows.part(block), ids[block, None]
        tempered = temper(part, temperature=temperature)
        place = (part.ids == wanted) & (wanted != PADDING_ID)
        weight = np.where(place, tempered.weight, 0.0).sum(axis=1)
        parts.append(np.where(place.any(axis=1), weight / tempered.total, np.nan))
    return np.concatenate(parts)


def realised_logprob(
    realised_logit: PerPosition, *, log_z: PerPosition, temperature: float
) -> PerPosition:
    """Log-probability (nats) at T of the token that follows.

    Args:
        realised_logit: Its logit.
        log_z: Of the same model at the same T (`Statistics.log_z`).
        temperature: Greedy gives 0 to the largest logit, and to its ties, and -inf to others.
    """
    if temperature < GREEDY_BELOW:
        return np.where(realised_logit >= log_z, 0.0, -np.inf)
    logprob: PerPosition = np.asarray(realised_logit, dtype=np.float64) / temperature - log_z
    return logprob


def nucleus_jaccard(a: Distributions, b: Distributions, *, decoding: Decoding) -> PerPosition:
    """Overlap of the two nuclei: tokens in both over tokens in either.

    NaN where the candidates cannot tell one of them.

    Raises:
        OutsideContract: as `statistics`.
        ValueError: the candidates differ.
    """
    require_same_candidates(a, b)
    parts = []
    for block in a.blocks():
        in_a = _nucleus_mask(a.part(block), decoding=decoding)
        in_b = _nucleus_mask(b.part(block), decoding=decoding)
        either = (in_a.members | in_b.members).sum(axis=1)
        both = (in_a.members & in_b.members).sum(axis=1)
        share = both / np.maximum(either, 1)
        parts.append(np.where(in_a.known & in_b.known, share, np.nan))
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Nucleus:
    members: Bool[np.ndarray, "position candidate"]
    known: Bool[np.ndarray, " position"]


def _nucleus_mask(rows: Distributions, *, decoding: Decoding) -> _Nucleus:
    kept: Float[np.ndarray, "position candidate"] = kept_probabilities(rows, decoding=decoding).kept
    return _Nucleus(members=kept > 0, known=np.isfinite(kept).all(axis=1))
