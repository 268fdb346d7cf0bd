"""What a report is made of, worked out once: comparisons, evidence, verdicts, headline deltas."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from probing.errors import NoCarriersLeft
from probing.reporting import headlines, tables
from probing.reporting.comparison import settled_rule
from probing.reporting.drifting import DriftAsked, DriftNull, drift_null
from probing.reporting.filters import keep
from probing.reporting.mechanism import Asked, Findings, mechanism
from probing.reporting.predictions import evidence_table
from probing.reporting.provenance import Compared
from probing.store.reader import Run
from probing.vocabulary import Assignment


@dataclass(frozen=True)
class Material:
    """Every table that a report is made of.

    Attributes:
        run: the run.
        asked: what is asked of it; its rule is settled.
        question: the same, as evidence takes it.
        compared: all positions under other, control, and their difference.
        found: evidence and verdict of other and control.
        evidence: the evidence as a table.
        headlines: delta tables of the headline quantities by kind, by assignment.
        drift: the drift null of these.
    """

    run: Run
    asked: Compared
    question: Asked
    compared: Mapping[str, pd.DataFrame]
    found: Findings
    evidence: pd.DataFrame
    headlines: Mapping[Assignment, pd.DataFrame]
    drift: DriftNull

    @property
    def deltas(self) -> pd.DataFrame:
        """Headline deltas by kind, kinds by the default assignment."""
        return self.headlines[self.asked.filters.assignment]


def material(run: Run, *, asked: Compared) -> Material:
    """Work out every table of a report.

    Raises:
        UsageFault: the run has no such model.
        NoCarriersLeft: no position carries figures.
        OutsideContract: a temperature or top-k that the run cannot answer.
    """
    compared = tables.all_comparisons(
        run, other=asked.other, control=asked.control, decoding=asked.decoding, rule=asked.rule
    )
    if keep(compared[asked.other], filters=asked.filters).empty:
        raise NoCarriersLeft(
            "a report rests on positions chosen by interval, random or all, got none in "
            f"{run.location}; score with one of them"
        )
    question = Asked(training=asked.training, rule=asked.rule, weighting=asked.weighting)
    found = mechanism(run, asked.others, asked=question)
    drift = drift_null(
        run,
        DriftAsked(
            other=asked.other,
            control=asked.control,
            decoding=asked.decoding,
            rule=asked.rule,
            filters=asked.filters,
            weighting=asked.weighting,
            seed=question.seed,
        ),
    )
    return Material(
        run=run,
        asked=replace(asked, rule=settled_rule(run, asked.rule)),
        question=question,
        compared=compared,
        found=found,
        evidence=evidence_table(found, asked=question),
        headlines=headlines.headline_tables(
            compared, filters=asked.filters, weighting=asked.weighting, drift=drift
        ),
        drift=drift,
    )
