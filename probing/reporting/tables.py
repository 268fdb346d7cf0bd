"""The tables that pages and commands ask for, in one place."""

from probing.reporting.comparison import comparison_table, other_names, position_table
from probing.reporting.deltas import delta_table, kind_shares
from probing.reporting.examples import (
    example_context,
    example_table,
    ranked_positions,
    shown_context,
    shown_prompt,
)

__all__ = [
    "comparison_table",
    "delta_table",
    "example_context",
    "example_table",
    "kind_shares",
    "other_names",
    "position_table",
    "ranked_positions",
    "shown_context",
    "shown_prompt",
]
