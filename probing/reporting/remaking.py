"""What a downloaded table was made with, in full, and the table made from that again."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import pandas as pd
from pydantic import TypeAdapter

from probing.errors import UsageFault
from probing.reporting import tables
from probing.reporting.carrier import carrier_positions
from probing.reporting.cells import cells, columns_apart
from probing.reporting.drifting import DriftAsked, Drifts, drift_null, stands_beside, with_drift
from probing.reporting.examples import Order, position_named
from probing.reporting.filters import HELD, Filters, Weighting, keep
from probing.reporting.quantities import QUANTITIES
from probing.settings import DEFAULT_RANKING_SEED, Decoding, Inference, KindRule, require
from probing.store.reader import Run


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How positions are ordered: as `ranked_positions`; the seed is that of the random order."""

    by: str
    order: Order
    seed: int = DEFAULT_RANKING_SEED


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """All that makes a table out of a run; what its table has no use for is None.

    Attributes:
        table: a name of `MAKERS`.
        other: the model compared with the baseline.
        control: the model beside it, if any.
        decoding: of every figure.
        kind_decoding: under which kinds are taken.
        kind_rule: thresholds of the kinds.
        filters: which positions are kept, and by whose distribution a kind is assigned.
        weighting: which positions carry a figure, and what each counts.
        by: strata that group.
        quantities: what is averaged.
        inference: level, draws and seed of the intervals.
        ranking: of a list of positions.
        at: name of the one position that is shown.
        carrier: id of the one response that is shown.
    """

    table: str
    other: str
    control: str | None
    decoding: Decoding
    kind_decoding: Decoding
    kind_rule: KindRule
    filters: Filters
    weighting: Weighting
    by: tuple[str, ...] | None = None
    quantities: tuple[str, ...] | None = None
    inference: Inference | None = None
    ranking: Ranking | None = None
    at: str | None = None
    carrier: str | None = None

    @property
    def values(self) -> tuple[str, ...]:
        """The quantities whose values the table reads."""
        if self.carrier is not None:
            return tuple(QUANTITIES)
        return self.quantities or (() if self.ranking is None else (self.ranking.by,))

    @property
    def of_positions(self) -> bool:
        """Whether its rows are positions or tokens, not groups."""
        return self.table in {"positions", "example", "carrier"}

    @property
    def drift(self) -> DriftAsked | None:
        """What the drift null beside this table depends on; None where the table has none."""
        by_kind = self.table == "deltas" and stands_beside(self.by or ())
        if not by_kind and self.table != "assignments":
            return None
        return DriftAsked(
            other=self.other,
            control=self.control,
            decoding=self.decoding,
            kind_decoding=self.kind_decoding,
            rule=self.kind_rule,
            filters=self.filters,
            weighting=self.weighting,
            seed=_known(self.inference).seed,
        )


Compared: TypeAlias = Mapping[str, pd.DataFrame]
Setting = TypeVar("Setting")


def _deltas(_: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    by = _known(asked.by)
    return tables.delta_tables(_held(compared, asked, by), by=by, **_averaging(asked))


def _assignments(_: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    return tables.assignment_tables(_held(compared, asked, ()), **_averaging(asked))


def _held(compared: Compared, asked: TableSettings, by: Sequence[str]) -> Compared:
    """The comparisons in cells, made now if they are not: so a table's last digits are the same."""
    apart, quantities = columns_apart(asked.filters, by), _known(asked.quantities)
    return {
        name: frame if HELD in frame else cells(frame, quantities=quantities, by=apart)
        for name, frame in compared.items()
    }


def _transitions(_: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    return tables.transition_tables(compared, filters=asked.filters, weighting=asked.weighting)


def _events(_: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    return tables.event_tables(compared, filters=asked.filters, weighting=asked.weighting)


def _positions(run: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    kept, ranking = keep(compared[asked.other], filters=asked.filters), _known(asked.ranking)
    ranked = tables.ranked_positions(kept, by=ranking.by, order=ranking.order, seed=ranking.seed)
    return tables.position_list(run, ranked, by=ranking.by, compared=compared)


def _example(run: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    position = position_named(compared[asked.other], _known(asked.at))
    if position is None:
        raise UsageFault(f"`at` must name a position of the run, got {asked.at!r}")
    return tables.example_table(
        run,
        int(position["row"]),
        other=asked.other,
        control=asked.control,
        decoding=asked.decoding,
    )


def _carrier(_: Run, compared: Compared, asked: TableSettings) -> pd.DataFrame:
    found = carrier_positions(compared[asked.other], _known(asked.carrier))
    require(not found.empty, "`carrier` must name a scored response of the run", asked.carrier)
    return found


MAKERS: dict[str, Callable[[Run, Compared, TableSettings], pd.DataFrame]] = {
    "deltas": _deltas,
    "assignments": _assignments,
    "transitions": _transitions,
    "events": _events,
    "positions": _positions,
    "example": _example,
    "carrier": _carrier,
}
"""The tables that pages download, by name."""


def made(
    run: Run, compared: Compared, asked: TableSettings, *, drifts: Drifts = drift_null
) -> pd.DataFrame:
    """The table that these settings ask for.

    Args:
        run: the run.
        compared: its comparisons under these settings.
        asked: which table, and everything that it depends on.
        drifts: finds the drift null.

    Raises:
        UsageFault: no such table, or a setting that it needs is not there.
    """
    require(asked.table in MAKERS, f"table must be one of {', '.join(MAKERS)}", asked.table)
    table = MAKERS[asked.table](run, compared, asked)
    if asked.drift is None:
        return table
    null = drifts(run, asked.drift)
    return with_drift(table, null, assignment=asked.filters.assignment)


def made_again(run: Run, document: str) -> pd.DataFrame:
    """The table beside which a settings download stood, from that alone.

    Args:
        run: the run that it names.
        document: of `export.settings_json`.

    Raises:
        UsageFault: it is of another run, or of another state of this one.
        pydantic.ValidationError: it is no settings download.
    """
    read = json.loads(document)
    fingerprint = read.get("run", {}).get("fingerprint")
    rule = f"the settings must be of this run, whose fingerprint is {run.fingerprint}"
    require(fingerprint == run.fingerprint, rule, fingerprint)
    asked = TypeAdapter(TableSettings).validate_json(document)
    compared = tables.all_comparisons(
        run,
        other=asked.other,
        control=asked.control,
        decoding=asked.decoding,
        rule=asked.kind_rule,
        kind_decoding=asked.kind_decoding,
    )
    return made(run, compared, asked)


def _averaging(asked: TableSettings) -> dict[str, Any]:
    return {
        "filters": asked.filters,
        "quantities": _known(asked.quantities),
        "weighting": asked.weighting,
        "inference": _known(asked.inference),
    }


def _known(setting: Setting | None) -> Setting:
    """A setting that the table needs."""
    if setting is None:
        raise UsageFault("a setting that this table needs is missing")
    return setting
