"""The tables that pages and commands ask for, in one place."""

from probing.reporting.comparison import (
    answer,
    comparison_table,
    other_names,
    position_table,
    standing_table,
    value_columns,
)
from probing.reporting.contrasts import (
    all_comparisons,
    comparisons,
    control_of,
    delta_tables,
    filtered_positions,
    kinds_of_all,
)
from probing.reporting.curves import curve_tables
from probing.reporting.deltas import delta_table
from probing.reporting.drifting import drift_null, with_drift
from probing.reporting.either_text import evidence_by_text
from probing.reporting.examples import (
    example_context,
    example_table,
    position_list,
    ranked_positions,
    shown_context,
    shown_prompt,
)
from probing.reporting.mechanism import beside_temperature, mechanism, places_beside
from probing.reporting.multiverse import multiverse_table
from probing.reporting.outcomes import (
    assignment_tables,
    delta_histogram,
    event_table,
    event_tables,
    kind_shares,
    transition_tables,
    transitions,
)
from probing.reporting.predictions import evidence_notes, evidence_table
from probing.reporting.progress import progress_table
from probing.reporting.sweeps import sweep_table

__all__ = [
    "all_comparisons",
    "answer",
    "assignment_tables",
    "beside_temperature",
    "comparison_table",
    "comparisons",
    "control_of",
    "curve_tables",
    "delta_histogram",
    "delta_table",
    "delta_tables",
    "drift_null",
    "event_table",
    "event_tables",
    "evidence_by_text",
    "evidence_notes",
    "evidence_table",
    "example_context",
    "example_table",
    "filtered_positions",
    "kind_shares",
    "kinds_of_all",
    "mechanism",
    "multiverse_table",
    "other_names",
    "places_beside",
    "position_list",
    "position_table",
    "progress_table",
    "ranked_positions",
    "shown_context",
    "shown_prompt",
    "standing_table",
    "sweep_table",
    "transition_tables",
    "transitions",
    "value_columns",
    "with_drift",
]
