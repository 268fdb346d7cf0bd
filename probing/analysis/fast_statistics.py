"""Every statistic of a row in one compiled pass, in the order that sequential decoding has.

Other orders, and min-p, go through `ranking`; tests hold both to the same slow reference, and to
each other. Source: docs/method.md, Decoding.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from probing.analysis.elementary import compiled, part
from probing.analysis.passes import TailedRows, power_of
from probing.vocabulary import PADDING_ID, CandidateIds, PositionIds

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
    # A copy may be written to, as a run's own array may not: Numba would compile for both.
    own_ids = np.array(ids, dtype=np.int32, order="C")
    whole = _all_rows(rows, ascending, own_ids, asked, found, top_ids)
    return (found, top_ids) if whole else None


@compiled
def _all_rows(rows, ascending, ids, asked, found, top_ids):
    width = ascending.shape[1]
    scaled, weight, cumulative = np.empty(width), np.empty(width), np.empty(width)
    logits = np.empty(width, dtype=np.float32)
    for row in range(ascending.shape[0]):
        reference = rows.reference[row]
        has_tail = reference > -np.inf
        finite, exact = _in_order(ascending[row], reference, logits)
        if has_tail and exact < asked.top_k and not asked.is_mean:
            return False
        largest = np.float64(logits[0]) if finite > 0 else -np.inf
        top = max(largest, reference)
        seen = _weighed(logits[:finite], top, rows.beta, scaled, weight, cumulative)
        tail_scaled = rows.beta * (reference - top)
        tail_weight = math.exp(tail_scaled + rows.log_mass[row])
        total = seen + tail_weight
        log_total = math.log(total)
        tail_mean = max(tail_scaled, asked.lowest) + rows.beta * rows.mean[row]
        tail_spread = rows.square[row] - rows.mean[row] * rows.mean[row]
        mean, square = _moments(
            scaled[:finite], weight, total, asked.lowest, tail_weight, tail_mean
        )
        entropy = max(log_total - mean, 0.0)

        everything = np.inf if has_tail else np.float64(finite)
        k_size, k_weight = everything, total
        if asked.top_k > 0:
            k_size, k_weight = _top_k(logits[:finite], cumulative, asked.top_k, exact, reference)
        size, kept, full = k_size, k_weight, everything
        if asked.top_p < 1:
            share = asked.top_p - asked.tolerance
            size, kept = _nucleus(cumulative[:finite], share * k_weight, k_weight, exact)
            full, _ = _nucleus(cumulative[:finite], share * total, total, exact)

        found[0, row] = 1 / total
        found[1, row] = 1 / kept
        found[2, row] = size
        found[3, row] = full
        found[4, row] = _outside(k_weight, total)
        found[5, row] = _outside(kept, total)
        found[6, row] = entropy
        found[7, row] = square + tail_weight * rows.beta * rows.beta * tail_spread / total
        found[8, row] = _kept_entropy(scaled, weight, size, kept, entropy)
        found[9, row] = _margin(scaled[:finite], tail_scaled, exact)
        found[10, row] = _close(scaled[:finite], tail_scaled, has_tail, exact, asked)
        found[11, row] = rows.beta * top + log_total
        top_ids[row] = _top_id(rows.logits[row], ids[row], largest, reference)
    return True


@part
def _in_order(ascending, reference, logits):
    """Put a row into descending order; how many are used, and how many of those are exact."""
    finite, exact = 0, 0
    for j in range(len(logits)):
        logits[j] = ascending[len(logits) - 1 - j]
        finite += logits[j] > -np.inf
        exact += logits[j] > -np.inf and logits[j] >= reference
    return finite, exact


@part
def _weighed(logits, top, beta, scaled, weight, cumulative):
    """Fill `scaled`, `weight` and `cumulative` as in `ranking.Ranked`; the last of the sums."""
    for j in range(len(logits)):
        scaled[j] = beta * (np.float64(logits[j]) - top)
    for j in range(len(logits)):
        weight[j] = power_of(scaled[j])
    seen = 0.0
    for j in range(len(logits)):
        seen += weight[j]
        cumulative[j] = seen
    return seen


@part
def _moments(scaled, weight, total, lowest, tail_weight, tail_mean):
    """As `moments.moments_of`: the mean, and the mean square about it but for the tail's own."""
    first = tail_weight * tail_mean
    for j in range(len(scaled)):
        first += weight[j] * max(scaled[j], lowest)
    mean = first / total
    second = tail_weight * (tail_mean - mean) * (tail_mean - mean)
    for j in range(len(scaled)):
        away = max(scaled[j], lowest) - mean
        second += weight[j] * away * away
    return mean, second / total


@part
def _kept_entropy(scaled, weight, size, kept, whole):
    """As `decoding.entropy_of_prefix`."""
    if size == np.inf:
        return whole if kept < np.inf else np.nan
    inside = 0.0
    for j in range(int(size)):
        inside += weight[j] * scaled[j]
    return max(math.log(kept) - inside / kept, 0.0)


@part
def _margin(scaled, tail_scaled, exact):
    """Rank 1 over rank 2, which may lie in the tail; rank 1 there leaves rank 2 unknown."""
    if exact == 0:
        return np.nan
    return -max(tail_scaled, scaled[1]) if len(scaled) > 1 else -tail_scaled


@part
def _close(scaled, tail_scaled, has_tail, exact, asked):
    """How many tokens are close; NaN where the tail may hold one of the leading ones."""
    if has_tail and tail_scaled >= asked.close_edge and exact < asked.close_among:
        return np.nan
    close = 0
    for j in range(min(asked.close_among, len(scaled))):
        close += scaled[j] >= asked.close_edge
    return np.float64(min(close, exact))


@part
def _top_k(logits, cumulative, top_k, exact, reference):
    """As `ranking.top_k_prefix`: size and weight; inf and NaN where they are not known."""
    size = min(top_k, len(logits))
    if reference > -np.inf and (exact < top_k or not np.float64(logits[size - 1]) > reference):
        return np.inf, np.nan
    while size < len(logits) and logits[size] == logits[size - 1]:
        size += 1
    return np.float64(size), cumulative[size - 1]


@part
def _nucleus(cumulative, edge, within, exact):
    """As `ranking.nucleus_prefix`: size and weight; inf and NaN where they are not known."""
    wanted = 1
    while wanted <= len(cumulative) and cumulative[wanted - 1] < edge:
        wanted += 1
    if not (within < np.inf and wanted <= exact):
        return np.inf, np.nan
    return np.float64(wanted), cumulative[wanted - 1]


@part
def _outside(kept, total):
    """As `decoding.mass_outside`."""
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
