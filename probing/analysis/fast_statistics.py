"""Every statistic of a row in one compiled pass, in the order that sequential decoding has.

Other orders, and min-p, go through `ranking`; tests hold both to the same slow reference, and to
each other. Source: docs/method.md, Decoding.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from probing.analysis.elementary import compiled, part
from probing.analysis.passes import TailedRows, largest_of, power_of
from probing.vocabulary import PADDING_ID, CandidateIds, CandidateLogits, PositionIds

COLUMNS = (
    "top1_prob",
    "top1_prob_kept",
    "nucleus_size",
    "nucleus_size_full",
    "tail_mass",
    "excluded_mass",
    "entropy_nats",
    "varentropy",
    "entropy_kept_nats",
    "margin_nats",
    "close_tokens",
    "log_z",
)
"""Statistics in the order in which a pass finds them; `top1_id` stands apart."""


class Asked(NamedTuple):
    """What of a decoding and a rule a pass needs.

    Attributes:
        top_k: 0 keeps everything.
        top_p: 1 keeps everything.
        tolerance: masses closer than this to an edge are on it.
        close_edge: how far below the largest a close token's logit / T may lie.
        close_among: leading tokens that are looked at.
        lowest: stands for -inf where it is multiplied with a weight of 0.
        is_mean: top ids may lie outside the candidates.
    """

    top_k: int
    top_p: float
    tolerance: float
    close_edge: float
    close_among: int
    lowest: float
    is_mean: bool


def fast_statistics(
    rows: TailedRows, ids: CandidateIds, asked: Asked
) -> tuple[Float[np.ndarray, "column position"], PositionIds] | None:
    """`COLUMNS`, and the id of the largest logit; None where a row lacks exact ranks for top-k."""
    ascending = np.sort(rows.logits, axis=1)
    found = np.empty((len(COLUMNS), len(ids)))
    top_ids = np.empty(len(ids), dtype=np.int64)
    whole = _all_rows(rows, ascending, np.ascontiguousarray(ids), asked, found, top_ids)
    return (found, top_ids) if whole else None


@compiled
def _all_rows(rows, ascending, ids, asked, found, top_ids):
    width = ascending.shape[1]
    scaled, weight, cumulative = np.empty(width), np.empty(width), np.empty(width)
    logits = np.empty(width, dtype=np.float32)
    for row in range(ascending.shape[0]):
        reference = rows.reference[row]
        has_tail = reference > -np.inf
        finite, exact = 0, 0
        for j in range(width):
            logits[j] = ascending[row, width - 1 - j]
            finite += logits[j] > -np.inf
            exact += logits[j] > -np.inf and logits[j] >= reference
        if has_tail and 0 < asked.top_k and exact < asked.top_k and not asked.is_mean:
            return False
        largest = np.float64(logits[0]) if finite > 0 else -np.inf
        top = max(largest, reference)
        for j in range(finite):
            scaled[j] = rows.beta * (np.float64(logits[j]) - top)
        for j in range(finite):
            weight[j] = power_of(scaled[j])
        seen = 0.0
        for j in range(finite):
            seen += weight[j]
            cumulative[j] = seen
        tail_scaled = rows.beta * (reference - top)
        tail_weight = math.exp(tail_scaled + rows.log_mass[row])
        total = seen + tail_weight
        log_total = math.log(total)

        # Moments of the whole distribution, as `moments.moments_of`.
        tail_mean = max(tail_scaled, asked.lowest) + rows.beta * rows.mean[row]
        first = 0.0
        for j in range(finite):
            first += weight[j] * max(scaled[j], asked.lowest)
        mean = (first + tail_weight * tail_mean) / total
        second = 0.0
        for j in range(finite):
            away = max(scaled[j], asked.lowest) - mean
            second += weight[j] * away * away
        spread = rows.square[row] - rows.mean[row] * rows.mean[row]
        away = tail_mean - mean
        second += tail_weight * (rows.beta * rows.beta * spread + away * away)
        entropy = max(log_total - mean, 0.0)

        # The prefixes, as `ranking.top_k_prefix` and `ranking.nucleus_prefix`.
        k_size, k_weight = np.inf if has_tail else np.float64(finite), total
        if asked.top_k > 0:
            k_size, k_weight = _top_k(
                logits, cumulative, asked.top_k, finite, exact, reference, has_tail
            )
        size, kept = k_size, k_weight
        full = np.inf if has_tail else np.float64(finite)
        if asked.top_p < 1:
            share = asked.top_p - asked.tolerance
            size, kept = _nucleus(cumulative, share * k_weight, k_weight, finite, exact)
            full, _ = _nucleus(cumulative, share * total, total, finite, exact)

        # The entropy of what is kept, as `decoding.entropy_of_prefix`.
        inside = 0.0
        if size < np.inf:
            for j in range(int(size)):
                inside += weight[j] * scaled[j]
        kept_entropy = math.log(kept) - inside / kept
        if kept_entropy < 0:
            kept_entropy = 0.0
        if size == np.inf and kept == kept:
            kept_entropy = entropy

        second_scaled = max(tail_scaled, scaled[1]) if finite > 1 else tail_scaled
        close = 0
        for j in range(min(asked.close_among, finite)):
            close += scaled[j] >= asked.close_edge
        hidden = has_tail and tail_scaled >= asked.close_edge and exact < asked.close_among

        found[0, row] = 1 / total
        found[1, row] = 1 / kept
        found[2, row] = size
        found[3, row] = full
        found[4, row] = _outside(k_weight, total)
        found[5, row] = _outside(kept, total)
        found[6, row] = entropy
        found[7, row] = second / total
        found[8, row] = kept_entropy
        found[9, row] = -second_scaled if exact > 0 else np.nan
        found[10, row] = np.nan if hidden else np.float64(min(close, exact))
        found[11, row] = rows.beta * top + log_total
        top_ids[row] = _top_id(rows.logits[row], ids[row], largest, reference)
    return True


@part
def _top_k(logits, cumulative, top_k, finite, exact, reference, has_tail):
    """Size and weight of the logits not below the k-th largest; inf and NaN if not known."""
    at = max(min(top_k, finite) - 1, 0)
    size = at + 1 if finite > 0 else 0
    while 0 < size < finite and logits[size] == logits[at]:
        size += 1
    known = not has_tail or (exact >= top_k and np.float64(logits[at]) > reference)
    if not known:
        return np.inf, np.nan
    return np.float64(size), cumulative[max(size - 1, 0)]


@part
def _nucleus(cumulative, edge, within, finite, exact):
    """Size and weight of the smallest prefix whose mass reaches the edge; inf, NaN if not known."""
    wanted = 1
    while wanted <= finite and cumulative[wanted - 1] < edge:
        wanted += 1
    if not (within < np.inf and wanted <= exact):
        return np.inf, np.nan
    return np.float64(wanted), cumulative[wanted - 1]


@part
def _outside(kept, total):
    rest = (total - kept) / total
    return 0.0 if rest < 0 else rest


@part
def _top_id(logits, ids, largest, reference):
    """The lowest id among the largest logits; none where the tail has a larger one."""
    found = np.int64(PADDING_ID)
    if largest >= reference and largest > -np.inf:
        for j in range(len(logits)):
            if logits[j] == largest and (found == PADDING_ID or ids[j] < found):
                found = np.int64(ids[j])
    return found
