"""The union of the models' top-K ids, in an order that does not depend on chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int

from probing.vocabulary import PADDING_ID

RANK_STRIDE = 1 << 31
"""Above every id, so that (rank, id) sorts as one integer; ids and ranks stay below it."""

NOT_FIRST = torch.iinfo(torch.int64).max


def union_ids(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    *,
    top_k: int,
    watched: Int[torch.Tensor, " watched"],
) -> Int[torch.Tensor, "position candidate"]:
    """Candidate ids of each row: every model's top K and the watched ids.

    Ordered by best rank over the models, then id; watched ids outside every top K come last, by
    id. Padded with `PADDING_ID` to the longest row of the block.
    """
    tops = [top_ids(logits, top_k=top_k) for logits in block]
    rows, depth = tops[0].shape
    ranks = torch.arange(1, depth + 1, device=tops[0].device).expand(rows, depth)
    ids = torch.cat([*tops, watched.expand(rows, -1)], dim=1)
    best = torch.cat([ranks] * len(tops) + [torch.full_like(ids[:, : len(watched)], depth + 1)], 1)
    by_id = (ids * RANK_STRIDE + best).sort(dim=1).values
    ids, best = by_id // RANK_STRIDE, by_id % RANK_STRIDE
    # The first of each run of equal ids carries its best rank; the others drop out.
    repeated = torch.zeros_like(ids, dtype=torch.bool)
    repeated[:, 1:] = ids[:, 1:] == ids[:, :-1]
    by_rank = (best * RANK_STRIDE + ids).masked_fill_(repeated, NOT_FIRST).sort(dim=1).values
    width = int((~repeated).sum(dim=1).max())
    by_rank = by_rank[:, :width]
    return (by_rank % RANK_STRIDE).masked_fill_(by_rank == NOT_FIRST, PADDING_ID)


def top_ids(
    logits: Float[torch.Tensor, "position vocabulary"], *, top_k: int
) -> Int[torch.Tensor, "position rank"]:
    """The K largest logits' ids in order of rank; equal logits in order of id, also at the edge."""
    vocabulary = logits.shape[1]
    depth = min(top_k, vocabulary)
    # One more than K shows whether a tie crosses the edge, where topk may take any.
    values, ids = logits.topk(min(depth + 1, vocabulary), dim=1)
    if vocabulary > depth:
        for row in (values[:, depth] == values[:, depth - 1]).nonzero().flatten().tolist():
            edge = values[row, depth]
            above = (logits[row] > edge).nonzero().flatten()
            tied = (logits[row] == edge).nonzero().flatten()
            ids[row, :depth] = torch.cat([above, tied])[:depth]
    ids = ids[:, :depth].sort(dim=1).values
    order = logits.gather(1, ids).sort(dim=1, descending=True, stable=True).indices
    return ids.gather(1, order)


@dataclass(frozen=True)
class Realised:
    """What the models say of the token that follows: logit, and 1-based rank (ties: the best)."""

    logit: Float[torch.Tensor, "position model"]
    rank: Int[torch.Tensor, "position model"]


def realised(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    token_ids: Int[torch.Tensor, " position"],
) -> Realised:
    """Logit of `token_ids` and 1 + the number of strictly larger logits, per model."""
    logits = [each.gather(1, token_ids[:, None]) for each in block]
    ranks = [1 + (each > own).sum(dim=1) for each, own in zip(block, logits, strict=True)]
    return Realised(logit=torch.cat(logits, dim=1), rank=torch.stack(ranks, dim=1))


def logits_at(
    block: Sequence[Float[torch.Tensor, "position vocabulary"]],
    candidate_id: Int[torch.Tensor, "position candidate"],
) -> Float[torch.Tensor, "position model candidate"]:
    """Every model's logit of every candidate; -inf at padding."""
    unused = candidate_id == PADDING_ID
    safe = candidate_id.masked_fill(unused, 0)
    found = [each.gather(1, safe).masked_fill_(unused, -torch.inf) for each in block]
    return torch.stack(found, dim=1)
