"""What finishing left in a run so that it opens fast: default statistics, facts, small arrays."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt

from probing.analysis.decoding import Statistics
from probing.analysis.side_by_side import side_by_side
from probing.settings import Decoding, KindRule, as_json
from probing.store.kept import Kept
from probing.store.opening import Finish
from probing.store.schema import COPIED, METADATA, STATISTICS
from probing.vocabulary import PerPosition


def close_fields(rule: KindRule) -> tuple[float, int]:
    """Of a rule, what statistics depend on: which tokens are close."""
    return rule.close_ratio, rule.close_among


PAIR_SIGNS, PAIR_GAPS, OVERLAP = "pair_signs", "pair_gaps", "nucleus_jaccard"
"""Arrays over pairs; see `store.facts`."""


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
        """Those of some measures, every array read once."""
        names = [field.name for field in dataclasses.fields(Statistics)]

        def columns(name: str) -> list[np.ndarray]:
            whole = self._read(name)
            return [np.ascontiguousarray(whole[:, measure]) for measure in measures]

        found = zip(*side_by_side(columns, names), strict=True)
        return [Statistics(**dict(zip(names, each, strict=True))) for each in found]

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
