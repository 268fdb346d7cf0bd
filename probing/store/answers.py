"""What a run answers of every row under a decoding: kept, and computed in one reading if not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from probing.analysis.decoding import Statistics, statistics
from probing.analysis.distributions import Distributions
from probing.analysis.moments import kl_nats
from probing.analysis.side_by_side import side_by_side
from probing.settings import GREEDY_BELOW, Decoding, KindRule
from probing.store.finished import TOP, Finished, close_fields
from probing.store.kept import KEPT_DIVERGENCES_BYTES, KEPT_STATISTICS_BYTES, Kept
from probing.vocabulary import PADDING_ID, PerPosition

Rows = Int[np.ndarray, " row"]


class Pair(NamedTuple):
    """Two models by index: whose expectation is taken, and the other; KL(a || b)."""

    a: int
    b: int


@dataclass(frozen=True)
class Rowwise:
    """How rows of a run are read.

    Attributes:
        blocks: all rows, so many at a time as are worked on at once.
        read: some rows of an array by its name, see `UnitArrays`; what was read goes with it.
        distributions: of a measure, of the rows that are read.
    """

    blocks: Callable[[], list[Rows]]
    read: Callable[[Rows], Callable[[str], np.ndarray]]
    distributions: Callable[[int, Callable[[str], np.ndarray]], Distributions]


class Answers:
    """Statistics and divergences of every row; safe to share over threads.

    Args:
        rowwise: how rows are read.
        measures: how many the run has.
        rows: how many it has.
        finished: what finishing left, if it is finished.
    """

    def __init__(
        self, rowwise: Rowwise, *, measures: int, rows: int, finished: Finished | None
    ) -> None:
        self._rowwise = rowwise
        self._measures = measures
        self._rows = rows
        self._finished = finished
        self._statistics: Kept[Statistics] = Kept(KEPT_STATISTICS_BYTES)
        self._divergences: Kept[PerPosition] = Kept(KEPT_DIVERGENCES_BYTES)

    def statistics(
        self, measures: Sequence[int], *, decoding: Decoding, rule: KindRule
    ) -> list[Statistics]:
        """Of each measure: kept, or stored, or computed."""
        return self.both(measures, [], decoding=decoding, rule=rule)[0]

    def divergences(self, pairs: Sequence[Pair], *, temperature: float) -> list[PerPosition]:
        """KL(a || b) of each pair at one temperature, nats: kept, or computed."""
        decoding = Decoding(temperature=temperature)
        return self.both([], pairs, decoding=decoding, rule=KindRule())[1]

    def both(
        self,
        measures: Sequence[int],
        pairs: Sequence[Pair],
        *,
        decoding: Decoding,
        rule: KindRule,
    ) -> tuple[list[Statistics], list[PerPosition]]:
        """Statistics of measures and divergences of pairs; what must be computed is read once."""
        under = (decoding, *close_fields(rule))
        every = {one: self._statistics.find((one, *under)) for one in measures}
        known = {one: found for one, found in every.items() if found is not None}
        if len(known) < len(every) and self._finished is not None:
            known |= self._stored([one for one in every if one not in known], decoding, rule)
        at = decoding.temperature
        apart = {pair: self._divergences.find((pair, at)) for pair in pairs}
        far = {pair: found for pair, found in apart.items() if found is not None}
        missing = [one for one in every if one not in known]
        missing_pairs = [pair for pair in apart if pair not in far]
        if missing or missing_pairs:
            made, gone = self._computed(missing, missing_pairs, decoding=decoding, rule=rule)
            known |= zip(missing, made, strict=True)
            far |= zip(missing_pairs, gone, strict=True)
        for one, found in known.items():
            self._statistics.keep((one, *under), found)
        for pair, values in far.items():
            self._divergences.keep((pair, at), values)
        return [known[one] for one in measures], [far[pair] for pair in pairs]

    def _stored(
        self, wanted: list[int], decoding: Decoding, rule: KindRule
    ) -> dict[int, Statistics]:
        """Those that finishing left; with them all others, if they can be kept too.

        A chunk holds all measures, so what was not asked for yet costs no further reading.
        """
        if self._finished is None or not self._finished.holds(decoding=decoding, rule=rule):
            return {}
        size = self._rows * 8 * len(fields(Statistics))
        if self._measures * size <= KEPT_STATISTICS_BYTES:
            wanted = list(range(self._measures))
        return dict(zip(wanted, self._finished.statistics(wanted), strict=True))

    def _computed(
        self,
        measures: Sequence[int],
        pairs: Sequence[Pair],
        *,
        decoding: Decoding,
        rule: KindRule,
    ) -> tuple[list[Statistics], list[PerPosition]]:
        needed = dict.fromkeys([*measures, *(side for pair in pairs for side in pair)])
        # Greedy looks for the top token, other orders break ties by id.
        plain = decoding.temperature >= GREEDY_BELOW and decoding.order == "sequential"
        tops = [self._finished.top1_id(one) for one in measures] if self._finished and plain else []
        # Filled block by block: to join a million rows of every statistic takes half a second.
        names = [field.name for field in fields(Statistics) if field.name != TOP or not tops]
        found = [
            {name: np.empty(self._rows, np.int64 if name == TOP else np.float64) for name in names}
            for _ in measures
        ]
        apart = [np.empty(self._rows) for _ in pairs]

        def fill(rows: Rows) -> None:
            array = self._rowwise.read(rows)
            if tops:
                array = without_ids(array)
            read = {one: self._rowwise.distributions(one, array) for one in needed}
            here = slice(rows[0], rows[-1] + 1) if len(rows) else slice(0)
            for whole, one in zip(found, measures, strict=True):
                part = statistics(read[one], decoding=decoding, rule=rule)
                for name, values in whole.items():
                    values[here] = getattr(part, name)
            for distance, pair in zip(apart, pairs, strict=True):
                distance[here] = kl_nats(
                    read[pair.a],
                    read[pair.b],
                    cross_mean=array("tail_mean")[:, pair.a, pair.b].astype(np.float64),
                    temperature_a=decoding.temperature,
                    temperature_b=decoding.temperature,
                )

        side_by_side(fill, self._rowwise.blocks())
        for whole, top in zip(found, tops, strict=False):
            whole[TOP] = top
        return [Statistics(**whole) for whole in found], apart


def without_ids(array: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    """Some rows of arrays, but no candidate has a name: reading names takes a tenth of the time.

    Of what is computed at a temperature above zero, the top token alone looks at them.
    """
    rows, _, candidates = array("logit").shape
    unnamed = np.broadcast_to(np.int32(PADDING_ID), (rows, candidates))
    return lambda name: unnamed if name == "candidate_id" else array(name)
