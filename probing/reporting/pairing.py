"""A pair of models read under many settings: statistics that several of them need, once each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from probing.analysis.decoding import Statistics
from probing.analysis.deltas import DELTA_NAMES, delta
from probing.analysis.kinds import KindCodes, kinds, with_entropy_cut
from probing.reporting.comparison import KIND_DECODING, mean_measure
from probing.reporting.places import headline_weights, place_table
from probing.settings import Decoding, KindRule
from probing.store.finished import close_fields
from probing.store.reader import Run
from probing.vocabulary import PerPosition, PositionIds


@dataclass(frozen=True)
class PairReader:
    """One baseline and one other model of a run.

    Attributes:
        run: the run.
        other: name of the other model.
        places: of `place_table`.
    """

    run: Run
    other: str
    places: pd.DataFrame
    _known: dict[object, Statistics] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(run: Run, other: str) -> "PairReader":
        """The pair; its positions are read, no statistic yet.

        Raises:
            UsageFault: no such other model.
        """
        mean_measure(run, other)
        return PairReader(run, other, place_table(run))

    @property
    def baseline(self) -> str:
        """Name of the baseline."""
        return self.run.model_names[0]

    @property
    def clusters(self) -> PositionIds:
        """Problem of every position, numbered as they come."""
        codes, _ = pd.factorize(self.places["problem_id"])
        return np.asarray(codes, dtype=np.int64)

    def kinds(self, rule: KindRule, *, decoding: Decoding = KIND_DECODING) -> KindCodes:
        """The kind of every position by each of the three distributions.

        Statistics that another rule or decoding shares are computed once.

        Raises:
            OutsideContract: a temperature or top-k that the run cannot answer exactly.
        """
        base, other, mean = (
            self._statistics(measure, decoding=decoding, rule=rule)
            for measure in (self.baseline, self.other, mean_measure(self.run, self.other))
        )
        settled = with_entropy_cut(
            rule,
            entropy_nats=base.entropy_nats.astype(np.float64),
            weights=headline_weights(self.places),
        )
        return KindCodes(
            mean=kinds(mean, rule=settled),
            baseline=kinds(base, rule=settled),
            other=kinds(other, rule=settled),
        )

    def deltas(self, quantities: Sequence[str], *, decoding: Decoding) -> dict[str, PerPosition]:
        """Deltas, other - baseline, of every position by quantity; each must be in `DELTA_NAMES`.

        Raises:
            OutsideContract: a temperature or top-k that the run cannot answer exactly.
        """
        assert set(quantities) <= set(DELTA_NAMES), quantities
        first, second = (
            self._statistics(name, decoding=decoding, rule=KindRule(), keep=False)
            for name in (self.baseline, self.other)
        )
        return {
            name: delta(
                np.asarray(getattr(first, name), dtype=np.float64),
                np.asarray(getattr(second, name), dtype=np.float64),
            )
            for name in quantities
        }

    def _statistics(
        self, measure: str | int, *, decoding: Decoding, rule: KindRule, keep: bool = True
    ) -> Statistics:
        """Of every position; kept ones serve every rule that counts close tokens alike."""
        close = close_fields(rule)
        key = (self.run.measure_index(measure), decoding, close)
        found = self._known.get(key)
        if found is None:
            found = self.run.statistics(measure, decoding=decoding, rule=rule)
            if keep:
                self._known[key] = found
        return found
