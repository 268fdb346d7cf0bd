"""A source told by its content: how its records are got, and which format they have."""

import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from probing.carriers.fields import Unusable
from probing.carriers.readers.batch import BATCH, is_batch_input
from probing.carriers.readers.datasets_disk import read_dataset
from probing.carriers.readers.formats import Fields, RecordFormat, first_that_fits, with_columns
from probing.carriers.readers.inspect_logs import INSPECT
from probing.carriers.readers.inspect_samples import (
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
from probing.carriers.readers.opening import DAMAGED, ZIP_MAGIC, first_bytes, raw_start
from probing.carriers.readers.parquet import PARQUET_MAGIC, read_parquet
from probing.carriers.readers.rows import BadRow, Rows
from probing.carriers.readers.scales import on_a_scale
from probing.carriers.readers.sources import Source, listed, unreadable
from probing.errors import UnreadableInput, UsageFault
from probing.settings import Inputs

UTF_16 = (b"\xff\xfe", b"\xfe\xff")
COLUMN_NAME = re.compile(rb'"?[\w\x80-\xff .()/#-]+"?')
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
        scaled: columns of grades that its first records show to be scores on a scale.
    """

    source: Source
    read: Callable[[], Rows]
    format: RecordFormat | None
    asks: bool = False
    scaled: frozenset[str] = frozenset()


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
    foreign = looks_like_array(head) or looks_like_document(head) or table_start(head) is not None
    if looks_like_jsonl(head) and not foreign:
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


def table_start(head: bytes) -> str | None:
    """What separates the names of columns in the first line of a table of text; None of another."""
    first, _, rest = head.partition(b"\n")
    if rest.startswith(b"{"):
        return None
    for separator in (b",", b"\t"):
        names = first.strip().split(separator)
        if len(names) > 1 and all(COLUMN_NAME.fullmatch(name.strip()) for name in names):
            return separator.decode()
    return None


def _instead(head: bytes) -> str:
    if looks_like_document(head):
        return "one JSON object over several lines and no log of Inspect: write one object a line"
    if looks_like_array(head):
        return "a JSON array: write one object a line (`jq -c '.[]' IN > OUT.jsonl`)"
    if (separator := table_start(head)) is not None:
        name, option = ("TSV", ", sep='\\t'") if separator == "\t" else ("CSV", "")
        return (
            f'it looks like {name}: write one object a line (`python -c "import pandas; '
            f"pandas.read_csv('IN'{option}).to_json('OUT.jsonl', orient='records', lines=True)\"`)"
        )
    if head.startswith(UTF_16) or 3 * head[:100].count(0) > len(head[:100]):
        return "it looks like UTF-16: write UTF-8 (`iconv -f UTF-16 -t UTF-8 IN > OUT.jsonl`)"
    return f"got {head[:20]!r}"


def _told(
    source: Source,
    read: Callable[[Source], Rows],
    formats: Sequence[RecordFormat],
    inputs: Inputs,
) -> Told:
    def again() -> Rows:
        return read(source)

    if inputs.format == INSPECT.name:
        raise UnreadableInput(f"{source.place} is no log of Inspect; leave out --format, or {NEXT}")
    seen = _Seen(formats, inputs)
    nothing = True
    with closing(read(source)) as rows:
        for row in rows:
            nothing = False
            if not isinstance(row, BadRow):
                seen.add(row.fields)
            if seen.count == LOOKED_AT:
                break
    if nothing:
        raise empty(source)
    if seen.asks:
        return Told(source, again, None, asks=True)
    if seen.count and seen.format is None:
        raise UnreadableInput(f"{source.place}: {seen.fault()}, or {NEXT}")
    return Told(source, again, seen.format, scaled=frozenset(seen.scaled))


class _Seen:
    """What the first whole records of a source are."""

    def __init__(self, formats: Sequence[RecordFormat], inputs: Inputs) -> None:
        self._formats, self._inputs = formats, inputs
        self._asking, self._answering = 0, 0
        self._first: list[str] = []
        self._missing = set(inputs.columns.values())
        self.count = 0
        self.format: RecordFormat | None = None
        self.scaled: set[str] = set()

    def add(self, fields: Fields) -> None:
        """One more record."""
        self.count += 1
        self._first = self._first or sorted(fields)
        self._missing -= fields.keys()
        if self._inputs.format in ("auto", BATCH) and is_batch_input(fields):
            self._asking += 1
            return
        try:
            fields = with_columns(fields, self._inputs.columns)
        except Unusable:
            found = None
        else:
            found = first_that_fits(fields, self._formats)
            self.scaled |= on_a_scale(fields)
        if self._inputs.format != "auto":
            found = next(each for each in self._formats if each.name == self._inputs.format)
        self._answering += found is not None
        self.format = self.format or found

    @property
    def asks(self) -> bool:
        """Whether most are prompts of a batch: a head that looks like one does not tell."""
        return self._asking > (0 if self.format is None else self._answering)

    def fault(self) -> str:
        """Why no format fits, and what to do."""
        got = listed(self._first, most=12)
        for name, column in self._inputs.columns.items():
            if column in self._missing:
                return (
                    f"no record has the column {column!r:.60} that --column names for `{name}`; "
                    f"got {got}; name a column that is there"
                )
        looks = "; ".join(f"{each.name} ({each.keys})" for each in self._formats)
        return (
            f"a record must look like one of {looks}; got {got}; name its columns with "
            "--column FIELD=COLUMN"
        )
