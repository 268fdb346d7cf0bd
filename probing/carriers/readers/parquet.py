"""Carrier Parquet: one row a record; nested values and `extra` come back as they were written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from probing.carriers.readers.rows import BadRow, Row
from probing.errors import UnreadableInput

PARQUET_MAGIC = b"PAR1"
JSON_COLUMNS = ("messages", "extra")
"""Columns that hold JSON text, because their shape differs from row to row."""
BATCH_ROWS = 1024


def read_parquet(path: Path) -> Iterator[Row | BadRow]:
    """Yield every row; `line` is its 1-based number.

    Raises:
        UnreadableInput: the file is not Parquet, or ends early.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            line = 0
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for fields in batch.to_pylist():
                    line += 1
                    yield _row(line, fields)
    except pyarrow.ArrowException as error:
        raise UnreadableInput(
            f"{path} cannot be read as Parquet: {error}; write it again or give JSONL"
        ) from error


def _row(line: int, fields: dict[str, Any]) -> Row | BadRow:
    parsed = dict(fields)
    for name in JSON_COLUMNS:
        if isinstance(parsed.get(name), str):
            try:
                parsed[name] = json.loads(parsed[name])
            except ValueError as error:
                return BadRow(line, "bad JSON", f"column `{name}`: {error}")
    return Row(line, parsed)
