"""Carrier JSONL, plain or zstandard: one JSON object a line, streamed."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probing.carriers.readers.opening import BOM, opened
from probing.carriers.readers.rows import BadRow, Row


def looks_like_jsonl(head: bytes) -> bool:
    """Whether content that starts like this (see `first_bytes`) is JSON objects, one a line.

    The first line may be damaged: then a later one has to start with a brace. An indented brace
    there does not count, since a JSON array over several lines has those.
    """
    return head.startswith(b"{") or b"\n{" in head


def read_jsonl(path: Path) -> Iterator[Row | BadRow]:
    """Yield every line that is not blank; a byte-order mark and CRLF are tolerated.

    A truncated or damaged zstandard stream ends with one `BadRow`; what came before is kept.
    """
    with opened(path) as stream:
        yield from _rows(stream)


def _rows(stream: io.BufferedReader) -> Iterator[Row | BadRow]:
    for line in itertools.count(1):
        try:
            raw = stream.readline()
        except OSError as error:
            detail = f"nothing after line {line - 1} can be read: {error}; write the file again"
            yield BadRow(line, "damaged file", detail)
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
    except (ValueError, RecursionError) as error:
        return BadRow(line, "bad JSON", str(error)[:200])
    if not isinstance(value, dict):
        return BadRow(line, "not an object", f"a record is a JSON object, got {_kind(value)}")
    return Row(line, value)


def _kind(value: object) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)
