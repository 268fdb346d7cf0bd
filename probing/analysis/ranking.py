"""Candidates in order of probability, and the prefixes of that order which truncation keeps.

Source: docs/method.md, Decoding: top-k (Fan, Lewis and Dauphin, 2018), nucleus (Holtzman and
others, 2020), min-p (Nguyen and others, 2024); orders as the four programs have them.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from probing.analysis.distributions import Distributions
from probing.analysis.moments import Tempered, settle, temper
from probing.analysis.passes import cumulative_rows
from probing.errors import OutsideContract
from probing.settings import Decoding
from probing.vocabulary import PADDING_ID, CandidateLogits, PerPosition, PositionIds, PositionMask

EDGE_TOLERANCE = 1e-7
"""Masses closer than this to an edge are on it: float32 logits do not tell them apart."""


@dataclass(frozen=True)
class Ranked:
    """Rows at one temperature with candidates in descending order, unused places last.

    Attributes:
        source: the rows, sorted.
        logits: sorted.
        reference: the tail's largest logit; -inf without a tail.
        tempered: the same order; see `Tempered`.
        cumulative: summed weights up to and including each place.
        finite: how many leading places are used.
        exact: how many leading places are this distribution's own top ones.
        is_mean: see `Distributions`.
    """

    source: Distributions
    logits: CandidateLogits
    reference: PerPosition
    tempered: Tempered
    cumulative: CandidateLogits
    finite: PositionIds
    exact: PositionIds
    is_mean: bool

    @property
    def total(self) -> PerPosition:
        """All weights, summed in the order of `cumulative`, so that nothing is left over."""
        total: PerPosition = self.cumulative[:, -1] + self.tempered.tail_weight
        return total

    @property
    def has_tail(self) -> PositionMask:
        """Rows of which some ids are no candidates."""
        there: PositionMask = np.isfinite(self.reference)
        return there


def ranked(rows: Distributions, *, temperature: float) -> Ranked:
    """Sort and temper.

    Raises:
        OutsideContract: some row has a tail and T lies outside the grid's range.
    """
    rows, temperature = settle(rows, temperature=temperature)
    return ranked_in_order(
        replace(rows, logits=-np.sort(-rows.logits, axis=1)), temperature=temperature
    )


def ranked_in_order(rows: Distributions, *, temperature: float) -> Ranked:
    """As `ranked`, of rows that are settled and whose logits descend already."""
    tempered = temper(rows, temperature=temperature)
    reference = rows.tail.reference
    finite = _leading(np.isfinite(rows.logits))
    return Ranked(
        source=rows,
        logits=rows.logits,
        reference=reference,
        tempered=tempered,
        cumulative=cumulative_rows(tempered.weight),
        finite=finite,
        exact=np.minimum(_leading(rows.logits >= reference[:, None]), finite),
        is_mean=rows.is_mean,
    )


def _leading(holds: Bool[np.ndarray, "position place"]) -> PositionIds:
    """How many places hold, of rows whose places hold up to some one and not beyond."""
    count: PositionIds = np.where(holds[:, -1], holds.shape[1], holds.argmin(axis=1))
    return count


@dataclass(frozen=True)
class Prefix:
    """The leading tokens that a truncation keeps.

    Attributes:
        size: how many; inf where that is more than the candidates can tell.
        weight: their summed weight (over `Ranked.total` for their mass); NaN where not known. A
            prefix of the whole vocabulary is known by its weight though not by its size.
    """

    size: PerPosition
    weight: PerPosition

    def places(self, rows: Ranked) -> Bool[np.ndarray, "position candidate"]:
        """Which places of the order are kept: all that are seen where the size is not known."""
        kept: Bool[np.ndarray, "position candidate"] = (
            np.arange(rows.logits.shape[1]) < np.minimum(self.size, rows.finite)[:, None]
        )
        return kept


def top_k_prefix(rows: Ranked, *, top_k: int) -> Prefix:
    """Keep logits not below the k-th largest: ties at k all stay. 0 keeps everything.

    Not known where ties at k may reach into the tail, and where a mean's own top k does.

    Raises:
        OutsideContract: a model's row has a tail and fewer than `top_k` exactly known ranks.
    """
    if top_k == 0:
        return Prefix(size=np.where(rows.has_tail, np.inf, rows.finite), weight=rows.total)
    short = rows.has_tail & (rows.exact < top_k)
    if short.any() and not rows.is_mean:
        raise OutsideContract(
            f"top_k must be at most the number of ranks known exactly ({rows.exact[short].min()} "
            f"at some position), got {top_k}; lower it, switch it off with 0, or score again with "
            "a larger [store] top_k"
        )
    at_k = np.clip(np.minimum(top_k, rows.finite) - 1, 0, None)
    kth = np.take_along_axis(rows.logits, at_k[:, None], axis=1)
    known = ~rows.has_tail | (~short & (kth[:, 0] > rows.reference))
    size = np.minimum(_leading(rows.logits >= kth), rows.finite)
    last = np.clip(size - 1, 0, None)
    weight = np.take_along_axis(rows.cumulative, last[:, None], axis=1)[:, 0]
    return Prefix(size=np.where(known, size, np.inf), weight=np.where(known, weight, np.nan))


def nucleus_prefix(rows: Ranked, *, within: Prefix, top_p: float) -> Prefix:
    """Keep a token iff the mass ranked strictly above it is below `top_p` of `within`.

    One token always stays. 1 keeps all of `within`. Between equal logits the order decides, so
    the size is exact and the mass too.
    """
    if top_p == 1:
        return within
    edge = (top_p - EDGE_TOLERANCE) * within.weight
    # The mass of `within` lies above the edge, so no more than its own places are counted.
    wanted = 1 + _leading(rows.cumulative < edge[:, None])
    fits = np.isfinite(within.weight) & (wanted <= rows.exact)
    last = np.minimum(wanted, rows.logits.shape[1]) - 1
    weight = np.take_along_axis(rows.cumulative, last[:, None], axis=1)[:, 0]
    return Prefix(size=np.where(fits, wanted, np.inf), weight=np.where(fits, weight, np.nan))


def exact_k_prefix(rows: Ranked, *, top_k: int) -> Prefix:
    """Keep exactly k tokens: of those tied at k, the first in order. 0 keeps everything.

    Raises:
        OutsideContract: as `top_k_prefix`.
    """
    if top_k == 0:
        return top_k_prefix(rows, top_k=0)
    tied = top_k_prefix(rows, top_k=top_k)
    short = rows.has_tail & (rows.exact < top_k)
    return _cut(rows, np.where(short, tied.size, np.minimum(top_k, rows.finite)))


def whole_mass_prefix(rows: Ranked, *, top_p: float) -> Prefix:
    """Keep a token unless more than `top_p` of the whole mass lies strictly above it."""
    if top_p == 1:
        return top_k_prefix(rows, top_k=0)
    edge = (top_p + EDGE_TOLERANCE) * rows.total
    wanted = 1 + _leading(rows.cumulative <= edge[:, None])
    return _cut(rows, np.where(wanted <= rows.exact, wanted, np.inf))


def min_p_prefix(rows: Ranked, *, min_p: float) -> Prefix:
    """Keep tokens of at least `min_p` times the largest probability. 0 keeps everything."""
    if min_p == 0:
        return top_k_prefix(rows, top_k=0)
    edge = np.log(min_p) - EDGE_TOLERANCE
    wanted = _leading(rows.tempered.scaled >= edge)
    hidden = rows.has_tail & (rows.tempered.tail_scaled >= edge)
    return _cut(rows, np.where(hidden | (wanted > rows.exact), np.inf, wanted))


def _cut(rows: Ranked, size: PerPosition) -> Prefix:
    """The prefix of this size; everything has all the weight, what is not known has none."""
    known = np.isfinite(size)
    last = np.where(known, size, 1).astype(np.int64) - 1
    weight = np.take_along_axis(rows.cumulative, last[:, None], axis=1)[:, 0]
    return Prefix(size=size, weight=np.where(known, weight, np.nan))


@dataclass(frozen=True)
class Truncation:
    """What decoding keeps: the top k, and the nucleus, which is what all truncations leave."""

    top_k: Prefix
    nucleus: Prefix


def truncation(rows: Ranked, *, decoding: Decoding) -> Truncation:
    """Top-k, top-p and min-p in the order of the decoding (see `Decoding`).

    Raises:
        OutsideContract: see `top_k_prefix`; `truncate_first` also reads the rows at temperature 1.
    """
    match decoding.order:
        case "sequential":
            top_k = top_k_prefix(rows, top_k=decoding.top_k)
            nucleus = nucleus_prefix(rows, within=top_k, top_p=decoding.top_p)
            return Truncation(top_k, _with_min_p(rows, nucleus, decoding.min_p))
        case "vllm":
            top_k = top_k_prefix(rows, top_k=decoding.top_k)
            within = _with_min_p(rows, top_k, decoding.min_p)
            return Truncation(top_k, nucleus_prefix(rows, within=within, top_p=decoding.top_p))
        case "joint":
            top_k = exact_k_prefix(rows, top_k=decoding.top_k)
            nucleus = _both(rows, top_k, whole_mass_prefix(rows, top_p=decoding.top_p))
            return Truncation(top_k, _with_min_p(rows, nucleus, decoding.min_p))
        case "truncate_first":
            return _truncated_first(rows, decoding=decoding)


def _truncated_first(rows: Ranked, *, decoding: Decoding) -> Truncation:
    """Sizes at temperature 1, where order is the same; weights at the decoding's own."""
    cold = ranked_in_order(rows.source, temperature=1.0)
    everything = top_k_prefix(cold, top_k=0)
    nucleus = nucleus_prefix(cold, within=everything, top_p=decoding.top_p)
    nucleus = _with_min_p(cold, nucleus, decoding.min_p)
    top_k = exact_k_prefix(rows, top_k=decoding.top_k)
    if decoding.top_p == 1 and decoding.min_p == 0:
        return Truncation(top_k, top_k)
    return Truncation(top_k, _both(rows, top_k, nucleus))


def _with_min_p(rows: Ranked, within: Prefix, min_p: float) -> Prefix:
    return within if min_p == 0 else _both(rows, within, min_p_prefix(rows, min_p=min_p))


def _both(rows: Ranked, one: Prefix, other: Prefix) -> Prefix:
    """What both keep: the shorter. One whose size is not known keeps at least the exact places."""
    shorter = _cut(rows, np.minimum(one.size, other.size))
    everything = [np.isinf(each.size) & np.isfinite(each.weight) for each in (one, other)]
    weight = np.where(everything[0] & everything[1], rows.total, shorter.weight)
    return replace(shorter, weight=weight)


def leading_ids(rows: Distributions, *, count: int) -> Int[np.ndarray, "position place"]:
    """The ids of each row's largest logits, largest first; `PADDING_ID` beyond what is exact.

    Equal logits keep the order of the candidates.
    """
    left = np.where(rows.logits >= rows.tail.reference[:, None], rows.logits, -np.inf)
    every = np.arange(len(left))
    found = np.full((len(left), count), PADDING_ID, dtype=np.int64)
    for place in range(count):
        best = left.argmax(axis=1)
        known = np.isfinite(left[every, best])
        found[known, place] = rows.ids[every, best][known]
        left[every, best] = -np.inf
    return found
