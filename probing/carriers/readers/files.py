"""A source told by its content: how its records are got, and which format they have."""

import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from probing.carriers.fields import Unusable
from probing.carriers.readers.batch import BATCH, is_batch_input
from probing.carriers.readers.datasets_disk import read_dataset
from probing.carriers.readers.formats import Fields, RecordFormat, first_that_fits, with_columns
from probing.carriers.readers.inspect_logs import (
    INSPECT,
    holds_inspect,
    looks_like_inspect,
    read_inspect,
)
from probing.carriers.readers.jsonl import (
    looks_like_array,
    looks_like_document,
    looks_like_jsonl,
    read_jsonl,
)
from probing.carriers.readers.opening import DAMAGED, first_bytes, raw_start
from probing.carriers.readers.parquet import PARQUET_MAGIC, read_parquet
from probing.carriers.readers.rows import BadRow, Rows
from probing.carriers.readers.sources import Source, listed, unreadable
from probing.errors import UnreadableInput, UsageFault
from probing.settings import Inputs

ZIP_MAGIC = b"PK\x03\x04"
LOOKED_AT = 50
"""So many whole records at most are looked at to tell a format."""

BATCH_INPUT = "batch input"
NEXT = "see docs/inputs.md for one line of each format"


@dataclass(frozen=True)
class Told:
    """A source and what it holds.

    Nothing is held open: of a folder with thousands of files each is opened in its turn.

    Attributes:
        source: the file.
        read: yields all of its records, from the first.
        format: None where no record could be told from any.
        asks: its records are prompts of a batch.
    """

    source: Source
    read: Callable[[], Rows]
    format: RecordFormat | None
    asks: bool = False


def check_format(formats: Sequence[RecordFormat], inputs: Inputs) -> None:
    """Refuse a format that is not known, before anything is read.

    Raises:
        UsageFault: it is none.
    """
    known = ["auto", *(each.name for each in formats), INSPECT.name]
    if inputs.format not in known:
        raise UsageFault(f"format must be one of {', '.join(known)}, got {inputs.format!r:.80}")


def tell(source: Source, *, formats: Sequence[RecordFormat], inputs: Inputs) -> Told:
    """Which format a source holds, by its first records.

    Raises:
        UnreadableInput: absent, empty, or of no known format.
        MissingPackage: its format needs a package that is not installed.
    """
    if source.is_dataset:
        return _told(source, read_dataset, formats, inputs)
    try:
        start = raw_start(source)
        head = first_bytes(source)
    except (*DAMAGED, ValueError) as error:
        raise unreadable(source.place, error) from error
    if not head:
        raise empty(source)
    if head.startswith((PARQUET_MAGIC, ZIP_MAGIC)) and not start.startswith(head[:4]):
        raise UnreadableInput(
            f"{source.place} is compressed, and a format inside it is "
            "not read front to back: unpack it first"
        )
    if head.startswith(PARQUET_MAGIC):
        return _told(source, read_parquet, formats, inputs)
    if _is_inspect(source, head):
        return Told(source, lambda: read_inspect(source), INSPECT)
    if not looks_like_array(head) and looks_like_jsonl(head) and not looks_like_document(head):
        return _told(source, read_jsonl, formats, inputs)
    raise UnreadableInput(f"{source.place} is of no known format, {_instead(head)}; {NEXT}")


def empty(source: Source) -> UnreadableInput:
    """A source without a record."""
    return UnreadableInput(f"{source.place} is empty: no record of a response; {NEXT}")


def _is_inspect(source: Source, head: bytes) -> bool:
    if not head.startswith(ZIP_MAGIC):
        return looks_like_inspect(head)
    try:
        with source.open() as file, zipfile.ZipFile(file) as packed:
            names = packed.namelist()
    except (*DAMAGED, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableInput(
            f"{source.place} is a damaged zip: {error!s:.200}; write the file again"
        ) from error
    if not holds_inspect(names):
        raise UnreadableInput(
            f"{source.place} is a zip, and no log of Inspect is in it; unpack it; {NEXT}"
        )
    return True


def _instead(head: bytes) -> str:
    if looks_like_document(head):
        return "one JSON object over several lines and no log of Inspect: write one object a line"
    if looks_like_array(head):
        return "a JSON array: write one object a line (`jq -c '.[]' IN > OUT.jsonl`)"
    return f"got {head[:20]!r}"


def _told(
    source: Source,
    read: Callable[[Source], Rows],
    formats: Sequence[RecordFormat],
    inputs: Inputs,
) -> Told:
    def again() -> Rows:
        return read(source)

    nothing, looked_at, columns = True, 0, ""
    with closing(read(source)) as rows:
        for row in rows:
            nothing = False
            if isinstance(row, BadRow):
                continue
            if inputs.format in ("auto", BATCH) and is_batch_input(row.fields):
                return Told(source, again, None, asks=True)
            found = _format_of(source, row.fields, formats, inputs)
            if found is not None:
                return Told(source, again, found)
            looked_at += 1
            columns = columns or listed(sorted(row.fields), most=12)
            if looked_at == LOOKED_AT:
                break
    if nothing:
        raise empty(source)
    if looked_at:
        looks = "; ".join(f"{each.name} ({each.keys})" for each in formats)
        raise UnreadableInput(
            f"{source.place}: a record must look like one of {looks}; got {columns}; "
            f"name its columns with --column FIELD=COLUMN, or {NEXT}"
        )
    return Told(source, again, None)


def _format_of(
    source: Source, fields: Fields, formats: Sequence[RecordFormat], inputs: Inputs
) -> RecordFormat | None:
    if inputs.format == INSPECT.name:
        raise UnreadableInput(f"{source.place} is no log of Inspect; leave out --format, or {NEXT}")
    if inputs.format != "auto":
        return next(each for each in formats if each.name == inputs.format)
    try:
        return first_that_fits(with_columns(fields, inputs.columns), formats)
    except Unusable:
        return None
