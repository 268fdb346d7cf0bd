"""What the overview shows, made once for every session, and before the first one comes."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from probing.dashboard.controls import Choice
from probing.reporting import charts, display, headlines, tables
from probing.reporting.charts import DeltaSpec
from probing.reporting.filters import Filters, keep
from probing.reporting.headlines import Headline
from probing.reporting.quantities import SHOWN_FIRST
from probing.reporting.remaking import TableSettings
from probing.vocabulary import Stratum

BY = [Stratum.KIND.value]


@dataclass(frozen=True)
class Overview:
    """All that hangs on the sidebar alone.

    Attributes:
        table: deltas by kind.
        labelled: the same as a page shows them.
        sentence: what may be said, of which positions.
        headlines: single deltas.
        charts: of each quantity.
        shares: how many positions of each kind there are, as Vega-Lite.
    """

    table: pd.DataFrame
    labelled: pd.DataFrame
    sentence: str
    headlines: list[Headline]
    charts: dict[str, DeltaSpec]
    shares: dict[str, Any]


def asked(choice: Choice) -> TableSettings:
    """The settings of the deltas by kind."""
    return choice.asked("deltas", by=BY, quantities=SHOWN_FIRST)


def overview(choice: Choice) -> Overview:
    """What the overview shows of this choice."""
    of_kinds = asked(choice)

    def make() -> Overview:
        table = choice.made(of_kinds)
        return Overview(
            table,
            display.labelled_deltas(table, by=BY),
            _sentence(choice, of_kinds, table),
            headlines.headlines(table),
            charts.delta_specs(table, quantities=SHOWN_FIRST, by=BY),
            _shares(choice),
        )

    return choice.result("overview", of_kinds, make)


def _sentence(choice: Choice, of_kinds: TableSettings, table: pd.DataFrame) -> str:
    found = headlines.headline_tables(
        choice.held(SHOWN_FIRST, grouped=BY),
        filters=choice.filters,
        weighting=choice.weighting,
        drift=choice.drift(of_kinds),
        known={choice.filters.assignment: table},
    )
    text = headlines.sentence(found, other=choice.other)
    everything = Filters(assignment=choice.filters.assignment)
    return (
        text if choice.filters == everything else f"Among the positions that filters keep: {text}"
    )


def _shares(choice: Choice) -> dict[str, Any]:
    cells = choice.held(SHOWN_FIRST, grouped=BY)[choice.other]
    kept = keep(cells, filters=choice.filters)
    chart = charts.shares_chart(tables.kind_shares(kept, weighting=choice.weighting))
    found: dict[str, Any] = chart.to_dict()
    return found
