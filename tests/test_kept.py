"""Kept arrays: the same as read, read once while there is room, never more than the budget."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probing.store.kept import Kept
from probing.store.reader import Run


@example([0, 1, 2, 0, 3, 0], 6)  # asking for 0 again saves it
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 12))
def test_what_is_kept_is_what_was_asked_last(keys: list[int], room: int) -> None:
    kept, reads = Kept(budget_bytes=8 * room), []
    held: list[int] = []  # the slow reference: least lately asked first
    for key in keys:
        size = key + 1

        def read(key: int = key, size: int = size) -> np.ndarray:
            reads.append(key)
            return np.full(size, float(key))

        before = len(reads)
        found = kept.get(key, read)
        assert found.tolist() == [float(key)] * size
        assert (len(reads) == before) == (key in held)
        if key in held:
            held.remove(key)
        if size <= room:
            held.append(key)
        while sum(one + 1 for one in held) > room:
            held.pop(0)


def test_kept_rows_cannot_be_written_and_are_those_of_a_fresh_read(run: Run) -> None:
    first = run.array("logit")
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    rows = np.arange(5, 90)
    np.testing.assert_array_equal(run.array("logit", rows), first[5:90])
    np.testing.assert_array_equal(run.array("logit", rows[::-1]), first[5:90][::-1])
    np.testing.assert_array_equal(run.array("logit", rows[::2]), first[5:90:2])
    few = run.array("logit", rows, candidates=7)
    np.testing.assert_array_equal(few, first[5:90, :, :7])
    assert len(run.array("logit", rows[:0])) == 0
