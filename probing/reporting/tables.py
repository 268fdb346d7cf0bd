"""The tables that pages and commands ask for, in one place."""

from probing.reporting.comparison import comparison_table, other_names, position_table
from probing.reporting.contrasts import comparisons, control_of, delta_tables
from probing.reporting.deltas import delta_table, event_shares, kind_shares, transitions
from probing.reporting.examples import (
    example_context,
    example_table,
    ranked_positions,
    shown_context,
    shown_prompt,
)

__all__ = [
    "comparison_table",
    "comparisons",
    "control_of",
    "delta_table",
    "delta_tables",
    "event_shares",
    "example_context",
    "example_table",
    "kind_shares",
    "other_names",
    "position_table",
    "ranked_positions",
    "shown_context",
    "shown_prompt",
    "transitions",
]
