"""A source told by its content: how its records are got, and which format they have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from probing.carriers.fields import Unusable
from probing.carriers.readers.batch import is_batch_input
from probing.carriers.readers.datasets_disk import read_dataset
from probing.carriers.readers.formats import RecordFormat, first_that_fits, with_columns
from probing.carriers.readers.inspect_logs import INSPECT, looks_like_inspect, read_inspect
from probing.carriers.readers.jsonl import looks_like_document, looks_like_jsonl, read_jsonl
from probing.carriers.readers.opening import DAMAGED, first_bytes
from probing.carriers.readers.parquet import PARQUET_MAGIC, read_parquet
from probing.carriers.readers.rows import BadRow, Row
from probing.carriers.readers.sources import Source, unreadable
from probing.errors import UnreadableInput
from probing.settings import Inputs

ZIP_MAGIC = b"PK\x03\x04"
LOOKED_AT = 50
"""So many records at most are looked at to tell a format."""

BATCH_INPUT = "batch input"
NEXT = "see docs/inputs.md for one line of each format"


@dataclass(frozen=True)
class Told:
    """A source and what it holds.

    Attributes:
        source: the file.
        rows: all of its records; can be asked once.
        format: None where no record could be told from any.
        asks: its records are prompts of a batch.
    """

    source: Source
    rows: Iterator[Row | BadRow]
    format: RecordFormat | None
    asks: bool = False


def tell(source: Source, *, formats: Sequence[RecordFormat], inputs: Inputs) -> Told:
    """Which format a source holds, by its first records.

    Raises:
        UnreadableInput: absent, empty, or of no known format; the format asked for is unknown.
    """
    if source.is_dataset:
        return _told(source, read_dataset(source), formats, inputs)
    try:
        head = first_bytes(source)
    except (*DAMAGED, ValueError) as error:
        raise unreadable(source.place, error) from error
    if not head:
        raise empty(source)
    if head.startswith(PARQUET_MAGIC):
        return _told(source, read_parquet(source), formats, inputs)
    if looks_like_inspect(head, is_zip=head.startswith(ZIP_MAGIC)):
        return Told(source, read_inspect(source), INSPECT)
    if looks_like_document(head):
        raise UnreadableInput(
            f"{source.place} is one JSON object over several lines and no log of Inspect: "
            f"responses are one JSON object a line; {NEXT}"
        )
    if looks_like_jsonl(head):
        return _told(source, read_jsonl(source), formats, inputs)
    raise UnreadableInput(f"{source.place} is of no known format, got {head[:20]!r}; {NEXT}")


def empty(source: Source) -> UnreadableInput:
    """A source without a record."""
    return UnreadableInput(f"{source.place} is empty: no record of a response; {NEXT}")


def _told(
    source: Source,
    rows: Iterator[Row | BadRow],
    formats: Sequence[RecordFormat],
    inputs: Inputs,
) -> Told:
    first = list(islice(rows, LOOKED_AT))
    every = chain(first, rows)
    good = [row.fields for row in first if isinstance(row, Row)]
    if inputs.format != "auto":
        wanted = next((each for each in formats if each.name == inputs.format), None)
        if wanted is None:
            known = ", ".join(each.name for each in formats)
            raise UnreadableInput(f"format must be auto or one of {known}, got {inputs.format!r}")
        return Told(source, every, wanted)
    for fields in good:
        if is_batch_input(fields):
            return Told(source, every, None, asks=True)
        try:
            found = first_that_fits(with_columns(fields, inputs.columns), formats)
        except Unusable:
            continue
        if found is not None:
            return Told(source, every, found)
    if good:
        listed = "; ".join(f"{each.name} ({each.keys})" for each in formats)
        raise UnreadableInput(
            f"{source.place}: a record must look like one of {listed}; got "
            f"{', '.join(sorted(map(str, good[0]))[:12])}; name its columns with --column "
            f"FIELD=COLUMN, or {NEXT}"
        )
    return Told(source, every, None)
