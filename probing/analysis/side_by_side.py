"""Blocks of rows worked on side by side: NumPy leaves the interpreter to others meanwhile."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")

MOST_THREADS = 4
"""More would hold more blocks in memory at once than they gain in time."""


def side_by_side(
    work: Callable[[Block], Result], blocks: Sequence[Block], *, threads: int | None = None
) -> list[Result]:
    """The result of every block, in their order; what is computed does not hang on the threads.

    Args:
        work: of one block; no two calls may write to the same place.
        blocks: what it is called with.
        threads: at most; by default as many as there are cores, up to `MOST_THREADS`.

    Raises:
        Exception: the first, in the order of the blocks, that `work` raised.
    """
    threads = threads or min(MOST_THREADS, os.cpu_count() or 1)
    if min(threads, len(blocks)) <= 1:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
        return list(pool.map(work, blocks))
