"""Formats of records: which there are, and which one a file holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.settings import Inputs

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """Fields of one carrier that a record gives.

    Attributes:
        fields: of the record of a carrier, not yet checked.
        part: which response of the record, where it may hold several; "" for the only one.
    """

    fields: Fields
    part: str = ""


Convert = Callable[[Row], Iterator[Made]]
"""The carriers of one record; raises `Unusable`. May know what came before."""


@dataclass(frozen=True)
class RecordFormat:
    """One way to write a response down.

    Attributes:
        name: as the command and settings call it.
        keys: what a record of it has, in words.
        fits: whether a record looks like it.
        opened: makes the conversion for one source.
        answers: its `answer` is the model's; elsewhere it may be the gold one too.
    """

    name: str
    keys: str
    fits: Callable[[Fields], bool]
    opened: Callable[[Source, Inputs], Convert]
    answers: bool = False


def first_that_fits(fields: Fields, formats: Sequence[RecordFormat]) -> RecordFormat | None:
    """The format of a record, or None."""
    return next((each for each in formats if each.fits(fields)), None)


def with_columns(fields: Fields, columns: Mapping[str, str]) -> dict[str, Any]:
    """The record with the columns that the settings name under the names of the carrier record.

    What stood under such a name is set aside.

    Raises:
        Unusable: a named column is not there.
    """
    for name, column in columns.items():
        if column not in fields:
            raise Unusable("missing field", f"column {column!r:.60} for `{name}` is not there")
    # Taken out first: columns may swap their names.
    kept = {name: value for name, value in fields.items() if name not in columns.values()}
    for name in columns:
        kept = set_aside(kept, name)
    return kept | {name: fields[column] for name, column in columns.items()}


def set_aside(fields: Fields, name: str) -> dict[str, Any]:
    """The record with a field under `<name>_logged`, where it is kept and says nothing."""
    free = f"{name}_logged"
    while free in fields:
        free = f"{free}_logged"
    return {free if key == name else key: value for key, value in fields.items()}
