"""Parquet: one row a record; in our own, nested values and `extra` come back as written."""

import base64
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow
import pyarrow.parquet

from probing.carriers.fields import KNOWN, NUMBERS, TOKEN_IDS
from probing.carriers.readers.nesting import DEEPEST_ROW, is_too_deep
from probing.carriers.readers.rows import BadRow, Row, Rows
from probing.carriers.readers.sources import Source
from probing.errors import UnreadableInput

PARQUET_MAGIC = b"PAR1"
JSON_COLUMNS = ("messages", "extra")
"""Columns that hold JSON text, because their shape differs from row to row.

`extra` does so in our own files alone, which have a `carrier_id`.
"""
BASE64 = "base64"
"""Field under which bytes stand that are no text."""
BATCH_ROWS = 256
BUFFER_BYTES = 1 << 20
"""Of a column, so much is read at once: by default a whole row group would be."""
UNUSABLE = (ValueError, OverflowError, KeyError, pyarrow.ArrowException)
"""What a value raises that Python cannot hold: no UTF-8, a date past 9999, an unknown time zone."""


def read_parquet(source: Source) -> Rows:
    """Yield every row; `line` is its 1-based number.

    Values of types that JSON does not have become text: dates and times in ISO form, decimals as
    their digits, binary decoded as UTF-8. Binary that is no UTF-8 becomes {"base64": …} where no
    field of the record is called like its column, and decimals there become numbers where the
    record has one. A file that is damaged after its first rows ends with one
    `BadRow`; what came before is kept.

    Raises:
        UnreadableInput: the file is not Parquet, ends early, is damaged from the first row on, or
            has two columns of one name.
    """
    line = 0
    try:
        with (
            source.open() as raw,
            # Reading ahead would hold the whole file, however it is divided.
            pyarrow.parquet.ParquetFile(raw, buffer_size=BUFFER_BYTES, pre_buffer=False) as file,
        ):
            _check_names(source.place, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for fields in records(batch):
                    line += 1
                    yield plain_row(line, fields)
    except (*UNUSABLE, OSError, MemoryError) as error:
        if line:
            detail = f"nothing after row {line} can be read: {error!s:.200}; write the file again"
            yield BadRow(line + 1, "damaged file", detail)
            return
        raise UnreadableInput(
            f"{source.place} cannot be read as Parquet: {error!s:.300}; write it again or give "
            "JSONL"
        ) from error


def _check_names(place: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableInput(
            f"{place}: every column needs a name of its own, got {', '.join(twice)} twice; "
            "write it again with one of each"
        )


def records(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any] | Exception]:
    """The rows of a batch, or what Python cannot hold of one."""
    try:
        yield from batch.to_pylist()
    except UNUSABLE:
        # Row by row, so that only the rows at fault are lost. Nothing was yielded so far: the
        # list is made whole before its first item is taken.
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UNUSABLE as error:
                yield error


def plain_row(line: int, fields: dict[str, Any] | Exception) -> Row | BadRow:
    """A row in the types that JSON has, or what is wrong with it."""
    if isinstance(fields, UnicodeDecodeError):
        return BadRow(line, "invalid text", f"not UTF-8: {fields}"[:200])
    if isinstance(fields, Exception):
        return BadRow(line, "wrong type", f"a value cannot be read: {fields}"[:200])
    parsed: dict[str, Any] = {}
    for name, value in fields.items():
        try:
            # A response has thousands of ids, and they are integers or a fault already.
            parsed[name] = value if name in TOKEN_IDS else _plain(value, ours=name in KNOWN)
            if name in NUMBERS and isinstance(value, Decimal):
                parsed[name] = float(value)
            is_json = name in JSON_COLUMNS and (name != "extra" or "carrier_id" in fields)
            if is_json and isinstance(parsed[name], str):
                parsed[name] = json.loads(parsed[name])
                if is_too_deep(parsed[name]):
                    return BadRow(line, "bad JSON", f"nested deeper than {DEEPEST_ROW} levels")
        except UnicodeDecodeError as error:
            return BadRow(line, "invalid text", f"column `{name}` is not UTF-8: {error}"[:200])
        except (ValueError, RecursionError) as error:
            return BadRow(line, "bad JSON", f"column `{name}`: {error}"[:200])
    return Row(line, parsed)


def _plain(value: Any, *, ours: bool) -> Any:
    """The value in the types that JSON has.

    Raises:
        UnicodeDecodeError: bytes of a field of the record that are no text.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {name: _plain(item, ours=ours) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, ours=ours) for item in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            if ours:
                raise
            return {BASE64: base64.b64encode(value).decode()}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
