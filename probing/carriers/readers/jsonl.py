"""Carrier JSONL, plain or zstandard: one JSON object a line, streamed."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from probing.carriers.readers.rows import BadRow, Row

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"


def looks_like_jsonl(head: bytes) -> bool:
    """Whether a file that starts like this holds JSON objects, possibly compressed."""
    return head.startswith(ZSTD_MAGIC) or head.removeprefix(BOM).lstrip().startswith(b"{")


def read_jsonl(path: Path) -> Iterator[Row | BadRow]:
    """Yield every line that is not blank; a byte-order mark and CRLF are tolerated.

    A truncated or damaged zstandard stream ends with one `BadRow`; what came before is kept.
    """
    with path.open("rb") as file:
        compressed = file.peek(len(ZSTD_MAGIC)).startswith(ZSTD_MAGIC)
        stream: BinaryIO = file
        if compressed:
            reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            stream = io.BufferedReader(reader)
        yield from _rows(stream)


def _rows(stream: io.BufferedReader) -> Iterator[Row | BadRow]:
    line = 0
    while True:
        line += 1
        try:
            raw = stream.readline()
        except zstandard.ZstdError as error:
            yield BadRow(line, "damaged compression", f"the zstandard stream ends early: {error}")
            return
        if not raw:
            return
        if line == 1:
            raw = raw.removeprefix(BOM)
        if raw.strip():
            yield _parse(line, raw)


def _parse(line: int, raw: bytes) -> Row | BadRow:
    if b"\0" in raw:
        return BadRow(line, "invalid text", "the line holds a NUL byte")
    try:
        value: Any = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(line, "invalid text", f"not UTF-8 at byte {error.start} of the line")
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        return BadRow(line, "bad JSON", str(error)[:200])
    if not isinstance(value, dict):
        return BadRow(line, "not an object", f"a record is a JSON object, got {_kind(value)}")
    return Row(line, value)


def _kind(value: object) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)
