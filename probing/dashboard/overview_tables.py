"""What the overview shows, made once for every session, and before the first one comes."""

from typing import Any

import pandas as pd

from probing.dashboard.controls import Choice
from probing.reporting import charts, headlines, tables
from probing.reporting.filters import Filters, keep
from probing.reporting.quantities import SHOWN_FIRST
from probing.reporting.remaking import TableSettings
from probing.vocabulary import Stratum

BY = [Stratum.KIND.value]


def asked(choice: Choice) -> TableSettings:
    """The settings of the deltas by kind."""
    return choice.asked("deltas", by=BY, quantities=SHOWN_FIRST)


def sentence(choice: Choice, of_kinds: TableSettings, table: pd.DataFrame) -> str:
    """What may be said, of which positions.

    Args:
        choice: what the sidebar says.
        of_kinds: those of `asked`.
        table: deltas by kind under the assignment in force.
    """
    found = choice.result(
        "headlines",
        of_kinds,
        lambda: headlines.headline_tables(
            choice.held(SHOWN_FIRST, grouped=BY),
            filters=choice.filters,
            weighting=choice.weighting,
            drift=choice.drift(of_kinds),
            known={choice.filters.assignment: table},
        ),
    )
    text = headlines.sentence(found, other=choice.other)
    everything = Filters(assignment=choice.filters.assignment)
    return (
        text if choice.filters == everything else f"Among the positions that filters keep: {text}"
    )


def shares(choice: Choice, of_kinds: TableSettings) -> dict[str, Any]:
    """The chart of how many positions of each kind there are."""

    def make() -> dict[str, Any]:
        cells = choice.held(SHOWN_FIRST, grouped=BY)[choice.other]
        kept = keep(cells, filters=choice.filters)
        chart = charts.shares_chart(tables.kind_shares(kept, weighting=choice.weighting))
        found: dict[str, Any] = chart.to_dict()
        return found

    return choice.result("shares", of_kinds, make)


def make_all(choice: Choice) -> None:
    """Make everything, for whoever asks next."""
    of_kinds = asked(choice)
    sentence(choice, of_kinds, choice.made(of_kinds))
    shares(choice, of_kinds)
