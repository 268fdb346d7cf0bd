"""The noise floor: the baseline's logits at a few positions, in the run's shape and in another."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from probing.scoring.batching import PADDING_TOKEN, Batch, Wanted, batches
from probing.scoring.divergence import divergences
from probing.scoring.forward import LogitRows, Runner, TwoPass
from probing.scoring.running_out import within_memory
from probing.settings import Scoring
from probing.store.noise import NoiseFloor, Spread
from probing.vocabulary import PerPosition, PositionMask

logger = logging.getLogger(__name__)

MOST_POSITIONS = 64
LEAST_TOKENS = 4096
"""Tokens that measuring may run in any case."""
SHARE_OF_TOKENS = 0.02
"""Of the tokens that the run gives the baseline; a longer run affords longer prefixes."""


def noise_floor(
    runner: Runner, carriers: Sequence[Wanted], *, scoring: Scoring
) -> NoiseFloor | None:
    """Score a few carriers twice: batched by the run's rule, and each in another shape.

    The other shape is the carrier alone where it had company, shorter chunks where it ran in
    chunks, twice over in one batch where it ran alone, and a longer input where the model runs
    whole. The same carriers and settings give the same figures. See `NoiseFloor` for what they are,
    and are not.

    Args:
        runner: of the baseline.
        carriers: all carriers of the run, in the plan's order, shortest first.
        scoring: how the run batches; `noise_carriers` of them are looked at.

    Returns:
        The figures; None where `noise_carriers` is 0, or where memory does not allow it.
    """
    sample = noise_sample(carriers, count=scoring.noise_carriers)
    if not sample:
        return None
    both = within_memory(
        lambda budget: _both_shapes(runner, sample, scoring=budget), scoring=scoring
    )
    if both is None:
        logger.warning("no noise floor: another batch shape does not fit in memory")
        return None
    differences = compare(both.result.ours, both.result.theirs)
    if len(differences.top1_changed) == 0:
        return None
    return NoiseFloor(
        carriers=len(sample),
        positions=len(differences.top1_changed),
        tokens=max(carrier.length for carrier in sample),
        logit=_spread(differences.logit),
        top1_prob=_spread(differences.top1_prob),
        entropy_nats=_spread(differences.entropy_nats),
        kl_nats=_spread(differences.kl_nats),
        top1_changed=float(differences.top1_changed.mean()),
    )


def noise_sample(carriers: Sequence[Wanted], *, count: int) -> list[Wanted]:
    """A few prefixes of carriers spread over the lengths, with a few of their wanted rows.

    The comparison of dtypes (`casting`) looks at such a sample too.

    At most `MOST_POSITIONS` rows in all, and no more tokens than `LEAST_TOKENS` or
    `SHARE_OF_TOKENS`, both scorings together, padding not counted. A prefix without a wanted
    row gives rows of its own.
    """
    if count == 0 or not carriers:
        return []
    places = np.unique(np.linspace(0, len(carriers) - 1, num=min(count, MOST_POSITIONS)).round())
    tokens = max(LEAST_TOKENS, SHARE_OF_TOKENS * sum(carrier.length for carrier in carriers))
    limit = max(1, int(tokens) // (2 * len(places)))
    return [
        _prefix(carriers[place], tokens=limit, rows=MOST_POSITIONS // len(places))
        for place in places.astype(int).tolist()
    ]


def _prefix(carrier: Wanted, *, tokens: int, rows: int) -> Wanted:
    length = min(carrier.length, tokens)
    there = carrier.rows[carrier.rows < length]
    if len(there) == 0:
        there = np.arange(length)
    spread = np.unique(np.linspace(0, len(there) - 1, num=min(rows, len(there))).round())
    return Wanted(token_ids=carrier.token_ids, rows=there[spread.astype(int)])


@dataclass(frozen=True)
class _BothShapes:
    """The same positions as the run batches them and otherwise, on the CPU."""

    ours: Float[torch.Tensor, "position vocabulary"]
    theirs: Float[torch.Tensor, "position vocabulary"]


def _both_shapes(runner: Runner, sample: Sequence[Wanted], *, scoring: Scoring) -> _BothShapes:
    lengths = [carrier.length for carrier in sample]
    ours: list[torch.Tensor] = []
    theirs: list[torch.Tensor] = []
    for batch in batches(
        lengths, token_budget=scoring.token_budget, chunk_tokens=scoring.chunk_tokens
    ):
        members = [sample[index] for index in batch.members]
        count = sum(len(member.rows) for member in members)
        rows = runner.rows(members, scoring=scoring)
        ours += [
            rows.block(start, min(start + scoring.head_rows, count)).cpu()
            for start in range(0, count, scoring.head_rows)
        ]
        for member in members:
            other = _other_shape(runner, member, batch=batch, scoring=scoring)
            theirs.append(other.block(0, len(member.rows)).cpu())
    return _BothShapes(torch.cat(ours), torch.cat(theirs))


def _other_shape(runner: Runner, member: Wanted, *, batch: Batch, scoring: Scoring) -> LogitRows:
    """The member's rows first, from a forward of another shape than its batch's."""
    if not isinstance(runner, TwoPass):
        return runner.rows([_longer(member)], scoring=scoring)
    if batch.chunked:
        shorter = scoring.chunk_tokens * 2 // 3 or scoring.chunk_tokens + 1
        return runner.rows([member], scoring=replace(scoring, chunk_tokens=shorter))
    if len(batch.members) > 1:
        return runner.rows([member], scoring=scoring)
    both = replace(scoring, token_budget=max(scoring.token_budget, 2 * member.length))
    return runner.rows([member, member], scoring=both)


def _longer(member: Wanted) -> Wanted:
    """The same rows, and one more after a few hundred tokens of padding: no causal row sees it."""
    more = np.full(min(member.length, LEAST_TOKENS // 8), PADDING_TOKEN, dtype=np.int32)
    ids = np.concatenate([member.token_ids[: member.length], more])
    return Wanted(token_ids=ids, rows=np.append(member.rows, len(ids) - 1))


@dataclass(frozen=True)
class Differences:
    """Absolute differences of two shapes, one per position; see `NoiseFloor`."""

    logit: PerPosition
    top1_prob: PerPosition
    entropy_nats: PerPosition
    kl_nats: PerPosition
    top1_changed: PositionMask


def compare(
    ours: Float[torch.Tensor, "position vocabulary"],
    theirs: Float[torch.Tensor, "position vocabulary"],
) -> Differences:
    """Position by position, in float64; positions whose logits are not finite are left out."""
    exact = divergences([ours, theirs], temperatures=(1.0,))
    log_z = exact.log_z[:, :, 0].numpy()
    kl = exact.kl_baseline_other[:, 0, 0].numpy()
    finite = np.isfinite(log_z).all(axis=1) & np.isfinite(kl)
    found: list[tuple[float, ...]] = []
    for row in np.flatnonzero(finite).tolist():
        a, b = ours[row].double().numpy(), theirs[row].double().numpy()
        both = np.isfinite(a) & np.isfinite(b)
        top = np.exp(a.max() - log_z[row, 0]), np.exp(b.max() - log_z[row, 1])
        entropy = _entropy(a - log_z[row, 0]), _entropy(b - log_z[row, 1])
        found.append(
            (
                np.abs(a[both] - b[both]).max(),
                abs(top[0] - top[1]),
                abs(entropy[0] - entropy[1]),
                kl[row],
                a.argmax() != b.argmax(),
            )
        )
    columns = np.array(found, dtype=np.float64).reshape(-1, 5).T
    return Differences(columns[0], columns[1], columns[2], columns[3], columns[4].astype(bool))


def _entropy(log_p: Float[np.ndarray, " vocabulary"]) -> float:
    """Nats; an id without probability adds nothing."""
    there = log_p[np.isfinite(log_p)]
    return -float(np.exp(there) @ there)


def _spread(differences: PerPosition) -> Spread:
    median, p95, maximum = np.quantile(differences, [0.5, 0.95, 1.0]).tolist()
    return Spread(median=median, p95=p95, maximum=maximum)
