"""What finishing left in a run so that it opens fast: default statistics, facts, small arrays."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import ref

import numpy as np
from jaxtyping import Float, UInt

from probing.analysis.decoding import Statistics
from probing.settings import Decoding, KindRule, as_json
from probing.store.kept import Kept
from probing.store.opening import Finish
from probing.store.schema import COPIED, METADATA, STATISTICS
from probing.vocabulary import PerPosition, PositionIds


def close_fields(rule: KindRule) -> tuple[float, int]:
    """Of a rule, what statistics depend on: which tokens are close."""
    return rule.close_ratio, rule.close_among


PAIR_SIGNS, PAIR_GAPS, OVERLAP = "pair_signs", "pair_gaps", "nucleus_jaccard"
"""Arrays over pairs; see `store.facts`."""


TOP = "top1_id"


class StoredStatistics(Statistics):
    """Statistics of which each array is read when it is asked for.

    Args:
        fill: reads an array by its name, and gives each of those read together its own.
    """

    _fill: Callable[[str], None]

    def __init__(self, fill: Callable[[str], None]) -> None:
        object.__setattr__(self, "_fill", fill)

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_"):
            raise AttributeError(name)
        self._fill(name)
        found: np.ndarray = vars(self)[name]
        return found

    @property
    def nbytes(self) -> int:
        """How much memory they take when all are read."""
        return len(dataclasses.fields(Statistics)) * self.top1_prob.nbytes


def copied(name: str) -> str:
    """Where the copy of a small array stands within the statistics."""
    return f"copy_{name}"


class Finished:
    """The arrays of a run's group `statistics`; runs finished by older versions lack some.

    Args:
        finish: the last commit.
        read: an array of the group by its name, all rows.
        kept: holds those that hang on no decoding, once they were read.
    """

    def __init__(
        self, finish: Finish, read: Callable[[str], np.ndarray], kept: Kept[np.ndarray]
    ) -> None:
        self._finish = finish
        self._read = read
        self._kept = kept
        prefix, end = f"{STATISTICS}/", f"/{METADATA}"
        self._names = frozenset(
            name.removeprefix(prefix).removesuffix(end)
            for name in finish.objects
            if name.startswith(prefix) and name.endswith(end)
        )

    def holds(self, *, decoding: Decoding, rule: KindRule) -> bool:
        """Whether `statistics` are stored under this decoding and rule."""
        return self._same(decoding) and self._close(rule)

    def statistics(self, measures: Sequence[int]) -> list[Statistics]:
        """Those of some measures; every array is read once, when it is asked for."""
        together: list[tuple[int, ref[StoredStatistics]]] = []

        def fill(name: str) -> None:
            whole = self._read(name)
            for measure, one in together:
                # A copy, or whoever is left would hold on to the arrays of all.
                if (own := one()) is not None:
                    object.__setattr__(own, name, whole[:, measure].copy())

        found = [StoredStatistics(fill) for _ in measures]
        together += zip(measures, map(ref, found), strict=True)
        return list(found)

    def top1_id(self, measure: int) -> PositionIds:
        """The top token of every position by a measure; it hangs on no decoding."""
        return self._once(TOP)[:, measure].astype(np.int64)

    def pair_signs(
        self, pair: int, *, temperature: float, rule: KindRule
    ) -> UInt[np.ndarray, " position"] | None:
        """Packed facts of a pair, or None."""
        alike = temperature == self._decoding["temperature"] and self._close(rule)
        return self._read(PAIR_SIGNS)[:, pair] if alike and PAIR_SIGNS in self._names else None

    def pair_gaps(self, pair: int) -> Float[np.ndarray, "position side"] | None:
        """Gaps of a pair, or None."""
        return self._once(PAIR_GAPS)[:, pair] if PAIR_GAPS in self._names else None

    def overlap(self, pair: int, *, decoding: Decoding) -> PerPosition | None:
        """Overlap of a pair's nuclei, or None."""
        there = OVERLAP in self._names and self._same(decoding)
        return self._read(OVERLAP)[:, pair] if there else None

    def copies(self, name: str) -> bool:
        """Whether it holds a copy of an array over positions."""
        return name in COPIED and copied(name) in self._names

    def copy(self, name: str) -> np.ndarray:
        """A small array over positions, whole."""
        return self._once(copied(name))

    def _once(self, name: str) -> np.ndarray:
        return self._kept.get(name, lambda: self._read(name))

    @property
    def _decoding(self) -> Mapping[str, Any]:
        return {**as_json(Decoding()), **self._finish.decoding}

    def _same(self, decoding: Decoding) -> bool:
        return as_json(decoding) == self._decoding

    def _close(self, rule: KindRule) -> bool:
        return close_fields(rule) == (
            self._finish.rule["close_ratio"],
            self._finish.rule["close_among"],
        )
