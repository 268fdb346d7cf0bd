"""One compiled pass over each row: what `rows` stores of it, several times as fast, on a CPU.

On other devices, and where a model masks ids, `rows` takes its general path; a test holds the two
equal.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from probing.analysis.elementary import (
    LOG2_E,
    LOWEST_BINARY_EXPONENT,
    compiled,
    exp2_double,
    exp2_single,
    minus_log_mean,
    ordinal,
    part,
)
from probing.scoring.reduced import RowArrays, RowSettings
from probing.scoring.tails import LOWEST_EXPONENT, OUTSIDE
from probing.vocabulary import PADDING_ID

TILE = 512
"""Ids of one row that are tempered at a time: they and their exponentials stay in L1."""

BLOCKS_PER_RANK = 4
"""Blocks of a row, per wanted rank, whose maxima bound the K-th largest logit from below."""

LANES = 64

RANK_STRIDE = 1 << 31
"""As in `candidates`: (rank, id) sorts as one integer."""


def fused(
    block: Sequence[Float[np.ndarray, "position vocabulary"]],
    token_ids: Int[np.ndarray, " position"],
    settings: RowSettings,
) -> RowArrays | None:
    """What is stored of a block of rows, or None where a logit is not finite.

    Args:
        block: Each model's float32 logits, baseline first; not changed.
        token_ids: y_i of each row.
        settings: Of the run.
    """
    (rows, vocabulary), models, nodes = block[0].shape, len(block), len(settings.betas)
    measures, temperatures = len(settings.measures.weights), len(settings.temperatures)
    depth = min(settings.top_k, vocabulary)
    width = min(vocabulary, models * depth + len(settings.watched))
    of_pairs = (rows, models - 1, temperatures)
    made = RowArrays(
        candidate_id=np.empty((rows, width), dtype=np.int32),
        logit=np.empty((rows, models, width), dtype=np.float32),
        realised_logit=np.empty((rows, models), dtype=np.float32),
        realised_rank=np.empty((rows, models), dtype=np.int32),
        masked=np.zeros((rows, models), dtype=np.int32),
        log_z=np.empty((rows, models, temperatures)),
        kl_baseline_other=np.empty(of_pairs),
        kl_other_baseline=np.empty(of_pairs),
        js=np.empty(of_pairs),
        tail_reference=np.zeros((rows, measures)),
        tail_log_mass=np.zeros((rows, measures, nodes)),
        tail_mean=np.zeros((rows, measures, models, nodes)),
        tail_square=np.zeros((rows, measures, nodes)),
    )
    exponents = np.stack([settings.betas * LOG2_E, np.full(nodes, LOWEST_EXPONENT * LOG2_E)])
    whole = _all_rows(
        tuple(np.ascontiguousarray(each) for each in block),
        token_ids.astype(np.int64),
        settings.watched.astype(np.int64),
        depth,
        1.0 / np.asarray(settings.temperatures, dtype=np.float64),
        exponents.astype(np.float32),
        settings.measures.weights.astype(np.float64),
        np.float32(OUTSIDE / float(settings.betas.min())),
        made,
    )
    if not whole:
        return None
    widest = int((made.candidate_id != PADDING_ID).sum(axis=1).max())
    return made._replace(
        candidate_id=made.candidate_id[:, :widest], logit=made.logit[:, :, :widest]
    )


@part
def _largest(values):
    """The largest value, found in lanes: a plain maximum over NaN has an order SIMD must keep."""
    lanes = np.full(LANES, -np.inf, dtype=np.float32)
    whole = len(values) - len(values) % LANES
    for start in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] = max(lanes[lane], values[start + lane])
    largest = np.float32(-np.inf)
    for lane in range(LANES):
        largest = max(largest, lanes[lane])
    for j in range(whole, len(values)):
        largest = max(largest, values[j])
    return largest


@part
def _top_ids(logits, depth, wanted):
    """Put the ids of the `depth` largest logits into `wanted`; equal logits in order of id.

    Ids whose remainders by the number of blocks agree are one block: `depth` of the blocks' maxima
    bound the `depth`-th largest logit from below, and few blocks reach that bound.
    """
    blocks = -(-len(logits) // max(1, len(logits) // (BLOCKS_PER_RANK * depth)))
    maxima = logits[:blocks].copy()
    for start in range(blocks, len(logits), blocks):
        for i in range(min(blocks, len(logits) - start)):
            maxima[i] = max(maxima[i], logits[start + i])
    bound = np.partition(maxima, blocks - depth)[blocks - depth]
    reaching = np.empty(blocks, dtype=np.int32)
    count = 0
    for i in range(blocks):
        if maxima[i] >= bound:
            reaching[count] = i
            count += 1
    reaching = reaching[:count]
    keys = np.empty(len(logits), dtype=np.int64)
    count = 0
    for start in range(0, len(logits), blocks):
        for i in reaching:
            index = start + i
            if index < len(logits) and logits[index] >= bound:
                keys[count] = np.int64(-ordinal(logits[index])) * RANK_STRIDE + index
                count += 1
    keys = np.sort(keys[:count])
    for rank in range(depth):
        wanted[rank] = keys[rank] % RANK_STRIDE


@part
def _union(tops, watched, best, found):
    """Put the ids of all models' tops and the watched ones into `found`, by best rank, then id.

    Args:
        tops: each model's ids in order of rank, shape (model, rank).
        watched: ids that are always in; their rank is one beyond the last if no model's.
        best: zero at every id, shape (vocabulary,); zero again at the end.
        found: filled, then `PADDING_ID`.
    """
    models, depth = tops.shape
    keys = np.empty(models * depth + len(watched), dtype=np.int64)
    count = 0
    for rank in range(depth):
        for m in range(models):
            index = tops[m, rank]
            if best[index] == 0:
                best[index] = rank + 1
                keys[count] = np.int64(rank + 1) * RANK_STRIDE + index
                count += 1
    for index in watched:
        if best[index] == 0:
            best[index] = depth + 1
            keys[count] = np.int64(depth + 1) * RANK_STRIDE + index
            count += 1
    keys = np.sort(keys[:count])
    found[:] = PADDING_ID
    for i in range(count):
        index = keys[i] % RANK_STRIDE
        found[i] = index
        best[index] = 0


@part
def _powers(logits, top, beta, powers):
    """Put exp(beta (x - top)) into `powers`; return the log of the sum of exp(beta x)."""
    scale = beta * LOG2_E
    total = 0.0
    for j in range(len(logits)):
        powers[j] = exp2_double(max((np.float64(logits[j]) - top) * scale, LOWEST_BINARY_EXPONENT))
        total += powers[j]
    return top * beta + math.log(total), 1.0 / total


@part
def _divergence(a, b, beta, gap, powers, shares):
    """KL(a||b), KL(b||a) and JS of softmax(beta a) and softmax(beta b).

    With p the larger and q the smaller of the two probabilities of an id and e = q / p, its part
    of 2 JS is (p + q) (-log((1 + e) / 2)) - q |log p - log q|: one logarithm, of a bounded number.

    Args:
        a: logits.
        b: logits.
        beta: inverse temperature.
        gap: log Z of a less that of b.
        powers: of both, see `_powers`, shape (2, vocabulary).
        shares: what turns them into probabilities.
    """
    forward, backward, twice = 0.0, 0.0, 0.0
    for j in range(len(a)):
        ratio = (np.float64(a[j]) - np.float64(b[j])) * beta - gap
        p_a, p_b = powers[0][j] * shares[0], powers[1][j] * shares[1]
        forward += p_a * ratio
        backward -= p_b * ratio
        large, small = max(p_a, p_b), min(p_a, p_b)
        twice += (large + small) * minus_log_mean(small / large) - small * abs(ratio)
    return max(forward, 0.0), max(backward, 0.0), max(0.5 * twice, 0.0)


@part
def _tail_sums(x, shifted, exponents, skipped, sums):
    """Add up, over the vocabulary, exp(beta x) times 1, x, x squared and models' shifted logits.

    Args:
        x: a measure's logits less its largest, shape (vocabulary,), float32.
        shifted: each model's, less its own reference, shape (model, vocabulary), float32.
        exponents: of 2: each node, and under it the least exponent, shape (2, beta), float32.
        skipped: the model whose sum is left alone.
        sums: filled, shape (3 + model, beta), float64; tiles are summed in float32.
    """
    tempered = np.empty(TILE, dtype=np.float32)
    sums[:] = 0.0
    for start in range(0, len(x), TILE):
        here = x[start : start + TILE]
        for k in range(exponents.shape[1]):
            beta, least = exponents[0, k], exponents[1, k]
            mass, first, square = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(len(here)):
                value = here[j]
                t = exp2_single(max(value * beta, least))
                tempered[j] = t
                mass += t
                first += t * value
                square += (t * value) * value
            sums[0, k] += mass
            sums[1, k] += first
            sums[2, k] += square
            for m in range(len(shifted)):
                if m != skipped:
                    own = shifted[m, start : start + TILE]
                    mean = np.float32(0.0)
                    for j in range(len(here)):
                        mean += tempered[j] * own[j]
                    sums[3 + m, k] += mean


@part
def _add_skipped(weights, top, skipped, sums):
    """The sum of the model that was skipped, since the mixture's own is known.

    x + top is the mixture of the models' shifted logits.
    """
    for k in range(sums.shape[1]):
        rest = sums[1, k] + top * sums[0, k]
        for m in range(len(weights)):
            if m != skipped:
                rest -= weights[m] * sums[3 + m, k]
        sums[3 + skipped, k] = rest / weights[skipped]


@part
def _candidates(block, row, token_id, watched, tops, best, made):
    """The union of one row, every model's logits there, and those of the token that follows."""
    for m in range(len(block)):
        _top_ids(block[m][row], tops.shape[1], tops[m])
    ids = made.candidate_id[row]
    _union(tops, watched, best, ids)
    for m in range(len(block)):
        logits = block[m][row]
        for c in range(len(ids)):
            made.logit[row, m, c] = -np.inf if ids[c] == PADDING_ID else logits[ids[c]]
        follows = logits[token_id]
        above = np.int32(0)
        for j in range(len(logits)):
            above += np.int32(logits[j] > follows)
        made.realised_logit[row, m] = follows
        made.realised_rank[row, m] = 1 + above


@part
def _exact(block, row, betas, tops, powers, made):
    """Normalisers and divergences of one row, at each inverse temperature."""
    shares = np.empty(len(block))
    for t in range(len(betas)):
        for m in range(len(block)):
            top = np.float64(block[m][row, tops[m, 0]])
            made.log_z[row, m, t], shares[m] = _powers(block[m][row], top, betas[t], powers[m])
        for pair in range(len(block) - 1):
            other = pair + 1
            kl_ab, kl_ba, js = _divergence(
                block[0][row],
                block[other][row],
                betas[t],
                made.log_z[row, 0, t] - made.log_z[row, other, t],
                (powers[0], powers[other]),
                (shares[0], shares[other]),
            )
            made.kl_baseline_other[row, pair, t] = kl_ab
            made.kl_other_baseline[row, pair, t] = kl_ba
            made.js[row, pair, t] = js


@part
def _shift(logits, ids, low, shifted):
    """Put the logits less the largest outside `ids` into `shifted`; return it, 0 if there is none.

    `low` stands at `ids`, and where a logit is lower.
    """
    shifted[:] = logits
    for index in ids:
        if index != PADDING_ID:
            shifted[index] = -np.inf
    largest = _largest(shifted)
    if largest == -np.inf:
        largest = np.float32(0.0)
    for j in range(len(shifted)):
        shifted[j] = max(shifted[j] - largest, low)
    return largest


@part
def _mix(shifted, weights, x):
    """Put the mixture of the models' rows, less its largest, into `x`; return that."""
    x[:] = 0.0
    for m in range(len(weights)):
        weight = np.float32(weights[m])
        if weight > 0:
            for j in range(len(x)):
                x[j] += weight * shifted[m, j]
    top = _largest(x)
    for j in range(len(x)):
        x[j] -= top
    return top


@part
def _tail(block, row, weights, exponents, low, scratch, made):
    """The tail grid of one row under every measure; a measure without a tail keeps its zeros."""
    shifted, mixed, sums = scratch
    models = len(block)
    own = np.empty(models)
    for m in range(models):
        own[m] = _shift(block[m][row], made.candidate_id[row], low, shifted[m])
    for measure in range(len(weights)):
        skipped = np.argmax(weights[measure])
        if weights[measure, skipped] == 1.0:  # One model's own.
            x = shifted[skipped]
            top = _largest(x)
        else:
            x = mixed
            top = _mix(shifted, weights[measure], x)
        if top <= low / (2 * models):
            made.tail_reference[row, measure] = -np.inf
            continue
        _tail_sums(x, shifted, exponents, skipped, sums)
        _add_skipped(weights[measure], np.float64(top), skipped, sums)
        made.tail_reference[row, measure] = top + np.sum(weights[measure] * own)
        for k in range(exponents.shape[1]):
            made.tail_log_mass[row, measure, k] = math.log(sums[0, k])
            made.tail_square[row, measure, k] = sums[2, k] / sums[0, k]
            for m in range(models):
                made.tail_mean[row, measure, m, k] = sums[3 + m, k] / sums[0, k]


@part
def _all_finite(values):
    """Whether no value is NaN or infinite: zero times that is NaN."""
    total = np.float32(0.0)
    for value in values:
        total += value * np.float32(0.0)
    return total == 0.0


@compiled
def _all_rows(block, token_ids, watched, depth, betas, exponents, weights, low, made):
    """Fill `made`; False, and nothing to rely on, where a logit is not finite."""
    models, vocabulary = len(block), block[0].shape[1]
    best = np.zeros(vocabulary, dtype=np.int32)
    tops = np.empty((models, depth), dtype=np.int64)
    powers = np.empty((models, vocabulary))
    scratch = (
        np.empty((models, vocabulary), dtype=np.float32),
        np.empty(vocabulary, dtype=np.float32),
        np.empty((3 + models, exponents.shape[1])),
    )
    for row in range(len(token_ids)):
        for m in range(models):
            if not _all_finite(block[m][row]):
                return False
        _candidates(block, row, token_ids[row], watched, tops, best, made)
        _exact(block, row, betas, tops, powers, made)
        _tail(block, row, weights, exponents, low, scratch, made)
    return True
