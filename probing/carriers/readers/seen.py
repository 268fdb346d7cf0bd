"""Which ids there were, and where each stood first: 16 bytes a slot, three slots an id at most."""

import hashlib
from array import array
from typing import NamedTuple

SLOTS = 1 << 12
FULL = 2 / 3
"""Share of slots that may be taken before there are twice as many."""
LINE_BITS = 40


class Stood(NamedTuple):
    """A place: number of the file, and line."""

    file: int
    line: int


class Seen:
    """A table of digests. Two of 10 million ids share one with a probability of 3e-6."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._taken = 0
        self._digests, self._places = _empty(slots), _empty(slots)

    def first(self, name: str, here: Stood) -> Stood | None:
        """Where an id stood first; None where that is here.

        Args:
            name: the id.
            here: its place; lines count from 1.
        """
        raw = hashlib.blake2b(name.encode(), digest_size=8).digest()
        digest = int.from_bytes(raw, "little")
        slot = self._slot(digest)
        if place := self._places[slot]:
            return Stood(place >> LINE_BITS, place & ((1 << LINE_BITS) - 1))
        self._put(slot, digest, here.file << LINE_BITS | here.line)
        if self._taken > FULL * len(self._digests):
            self._grow()
        return None

    def _slot(self, digest: int) -> int:
        """Where a digest stands, or the free slot where it would."""
        most = len(self._digests) - 1
        slot = digest & most
        while self._places[slot] and self._digests[slot] != digest:
            slot = (slot + 1) & most
        return slot

    def _put(self, slot: int, digest: int, place: int) -> None:
        self._digests[slot], self._places[slot] = digest, place
        self._taken += 1

    def _grow(self) -> None:
        before = zip(self._digests, self._places, strict=True)
        self._taken = 0
        self._digests, self._places = (_empty(2 * len(self._digests)) for _ in range(2))
        for digest, place in before:
            if place:
                self._put(self._slot(digest), digest, place)


def _empty(slots: int) -> "array[int]":
    return array("Q", bytes(8 * slots))
