"""What files yield: parsed records and faults, each with its place."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Row:
    """One record of a file, before it is a carrier. `line` is 1-based (a row number in Parquet)."""

    line: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class BadRow:
    """A record that could not even be parsed."""

    line: int
    reason: str
    detail: str


Rows: TypeAlias = Generator[Row | BadRow, None, None]
"""All records of a file; to be closed where it is left early."""
