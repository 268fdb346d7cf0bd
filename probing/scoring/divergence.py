"""Normalisers and divergences over the full vocabulary, exact, in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float

TILE_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Elements of one model's rows held in float64 at a time: a few such tiles fit a CPU's cache."""

LOG_2 = math.log(2.0)
LARGEST_LOG_RATIO = 700.0
"""exp of it is still finite in float64; beyond it a probability ratio is 0 or infinite."""


@dataclass(frozen=True)
class Divergences:
    """Per position, at each named temperature, float64, nats; pairs are (baseline, other)."""

    log_z: Float[torch.Tensor, "position model temperature"]
    kl_baseline_other: Float[torch.Tensor, "position pair temperature"]
    kl_other_baseline: Float[torch.Tensor, "position pair temperature"]
    js: Float[torch.Tensor, "position pair temperature"]


def divergences(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]], *, temperatures: Sequence[float]
) -> Divergences:
    """The log Z of every model, KL both ways and Jensen-Shannon of every (baseline, other) pair.

    Exact also where ids are masked (-inf): KL is then infinite from a model that gives mass to an
    id that the other masks, and finite the other way; JS is finite always.
    """
    rows, vocabulary = block[0].shape
    device = block[0].device
    pairs = len(block) - 1
    shape = (rows, pairs, len(temperatures))
    log_z = torch.empty((rows, len(block), len(temperatures)), dtype=torch.float64, device=device)
    forward, backward, js = (torch.empty(shape, dtype=torch.float64, device=device) for _ in "abc")
    step = max(1, TILE_ELEMENTS[device.type] // vocabulary)
    for start in range(0, rows, step):
        here = slice(start, start + step)
        wide = [each[here].double() for each in block]
        for column, temperature in enumerate(temperatures):
            log_p = []
            for model, logits in enumerate(wide):
                scaled = logits / temperature
                log_z[here, model, column] = scaled.logsumexp(dim=1)
                log_p.append(scaled.sub_(log_z[here, model, column, None]))
            p = [each.exp() for each in log_p]
            for pair in range(pairs):
                found = _pair(log_p[0], log_p[pair + 1], p[0], p[pair + 1])
                forward[here, pair, column] = found.kl_ab
                backward[here, pair, column] = found.kl_ba
                js[here, pair, column] = found.js
    return Divergences(log_z, forward, backward, js)


@dataclass(frozen=True)
class _PairDivergence:
    kl_ab: torch.Tensor
    kl_ba: torch.Tensor
    js: torch.Tensor


def _pair(
    log_a: torch.Tensor, log_b: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> _PairDivergence:
    """KL(a||b), KL(b||a) and JS of each row.

    With d = log a - log b, log(a / ((a + b) / 2)) = log 2 - log(1 + exp(-d)): no third exp.
    """
    log_ratio = log_a - log_b
    infinite_ab = infinite_ba = None
    if not bool(torch.isfinite(log_ratio).all()):
        infinite_ab = ((a > 0) & torch.isneginf(log_b)).any(dim=1)
        infinite_ba = ((b > 0) & torch.isneginf(log_a)).any(dim=1)
        log_ratio = log_ratio.nan_to_num_(nan=0.0).clamp_(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    rise = torch.nn.functional.softplus(-log_ratio)  # log(1 + b / a)
    js = (_dot(a, LOG_2 - rise) + _dot(b, LOG_2 - rise - log_ratio)) / 2
    kl_ab = _dot(a, log_ratio).clamp_(min=0.0)
    kl_ba = _dot(b, log_ratio).neg_().clamp_(min=0.0)
    if infinite_ab is not None and infinite_ba is not None:
        kl_ab.masked_fill_(infinite_ab, torch.inf)
        kl_ba.masked_fill_(infinite_ba, torch.inf)
    return _PairDivergence(kl_ab=kl_ab, kl_ba=kl_ba, js=js.clamp_(min=0.0))


def _dot(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Row-wise sum of products."""
    sums: torch.Tensor = torch.linalg.vecdot(weights, values, dim=1)
    return sums
