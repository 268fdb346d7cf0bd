"""Running out of memory: what it looks like, and the smaller budget to go on with."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch

from probing.settings import Scoring

Result = TypeVar("Result")

LEAST_TOKENS = 64
"""A budget below this would not save memory: the models themselves are what does not fit."""

TOO_LARGE_ALONE = (
    "needs more memory than there is, even in the smallest batches; use a device with more memory"
)
TOO_LARGE = f"{TOO_LARGE_ALONE}, or set memory_mode = 'sequential' under [scoring]"
"""What to say where no budget fits."""

SIGNS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",
)
"""What is said where a plain RuntimeError is raised: by torch's CPU allocator, cuBLAS, oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def halved(scoring: Scoring) -> Scoring | None:
    """Half the tokens a batch and a chunk, half the rows a block; None below the least."""
    if scoring.chunk_tokens // 2 < LEAST_TOKENS:
        return None
    return replace(
        scoring,
        token_budget=max(1, scoring.token_budget // 2),
        chunk_tokens=scoring.chunk_tokens // 2,
        head_rows=max(1, scoring.head_rows // 2),
    )


@dataclass(frozen=True)
class Fitted(Generic[Result]):
    """What was made, and the budget that memory allowed."""

    result: Result
    scoring: Scoring


def within_memory(
    make: Callable[[Scoring], Result],
    *,
    scoring: Scoring,
    told: Callable[[Scoring], None] | None = None,
) -> Fitted[Result] | None:
    """What `make` gives in the first budget that fits, halved until it does; None where none fits.

    Args:
        make: with a budget; begins from nothing each time.
        scoring: the first budget.
        told: of each smaller one before it is tried.
    """
    budget: Scoring | None = scoring
    while budget is not None:
        try:
            return Fitted(make(budget), budget)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        budget = halved(budget)
        # Out of the handler, whose traceback holds every tensor of the attempt.
        gc.collect()
        torch.cuda.empty_cache()
        if budget is not None and told is not None:
            told(budget)
    return None


BUDGET = ("token_budget", "chunk_tokens", "head_rows")


def budget_of(scoring: Scoring) -> dict[str, int]:
    """The three sizes that a unit is scored with, as they stand in the log and in its commit."""
    return {name: getattr(scoring, name) for name in BUDGET}


def with_budget(scoring: Scoring, budget: Mapping[str, int]) -> Scoring:
    """The inverse of `budget_of`."""
    return replace(
        scoring,
        token_budget=budget["token_budget"],
        chunk_tokens=budget["chunk_tokens"],
        head_rows=budget["head_rows"],
    )
