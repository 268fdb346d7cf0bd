"""Batches by token budget: padding on the right, carriers of like length together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

PADDING_TOKEN = 0
"""Any valid id: padding stands after every row that is kept, and no causal model looks ahead."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of the models in one carrier.

        token_ids   p0 p1 p2 | y0 y1 y2 y3      response_start = 3
        rows         0  1  2    3  4  5  6      row r predicts token r + 1
        y_i is predicted by row response_start + i - 1:  y0 by row 2, y2 by row 4

    Attributes:
        token_ids: prompt and response, shape (token,).
        rows: rows of hidden states or logits to keep, ascending, shape (position,).
    """

    token_ids: Int[np.ndarray, " token"]
    rows: Int[np.ndarray, " position"]

    @property
    def length(self) -> int:
        """Tokens that must be run: up to the last wanted row, and nothing after it."""
        return int(self.rows[-1]) + 1


@dataclass(frozen=True)
class Batch:
    """Carriers that are run together: indices into the unit's carriers; chunked alone if long."""

    members: tuple[int, ...]
    chunked: bool


def wanted_rows(
    token_ids: Int[np.ndarray, " token"],
    position: Int[np.ndarray, " position"],
    *,
    response_start: int,
) -> Wanted:
    """The rows that predict response tokens `position`; see the sketch in `Wanted`."""
    return Wanted(token_ids=token_ids, rows=position.astype(np.int64) + (response_start - 1))


def batches(lengths: Sequence[int], *, token_budget: int, chunk_tokens: int) -> tuple[Batch, ...]:
    """Group carriers, shortest first, so that count times longest stays within `token_budget`.

    A carrier longer than `chunk_tokens` runs alone, in chunks; one longer than the budget alone.
    The grouping depends on the arguments only.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    made: list[Batch] = []
    open_members: list[int] = []
    for index in order:
        if lengths[index] > chunk_tokens:
            made.append(Batch(members=(index,), chunked=True))
            continue
        if open_members and (len(open_members) + 1) * lengths[index] > token_budget:
            made.append(Batch(members=tuple(open_members), chunked=False))
            open_members = []
        open_members.append(index)
    if open_members:
        made.append(Batch(members=tuple(open_members), chunked=False))
    return tuple(made)


def padded_ids(members: Sequence[Wanted]) -> Int[torch.Tensor, "carrier token"]:
    """Token ids up to each carrier's last wanted row, padded on the right."""
    longest = max(member.length for member in members)
    ids = np.full((len(members), longest), PADDING_TOKEN, dtype=np.int64)
    for line, member in zip(ids, members, strict=True):
        line[: member.length] = member.token_ids[: member.length]
    return torch.from_numpy(ids)
