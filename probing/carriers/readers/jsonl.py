"""JSON lines, plain, gzip or zstandard: one JSON object a line, streamed."""

import io
import itertools
import json
import re
from typing import Any

from probing.carriers.readers.nesting import DEEPEST_ROW, is_too_deep
from probing.carriers.readers.opening import BOM, DAMAGED, opened
from probing.carriers.readers.rows import BadRow, Row, Rows
from probing.carriers.readers.sources import Source, unreadable

MOST_LINE_BYTES = 64 << 20
"""A longer line is no response: it is skipped, and passed over without holding it."""

ARRAY_START = re.compile(rb"\[\s*(\{|\]|$)")


def looks_like_jsonl(head: bytes) -> bool:
    """Whether content that starts like this (see `first_bytes`) is JSON objects, one a line.

    The first line may be damaged: then a later one has to start with a brace. An indented brace
    there does not count, since a JSON array over several lines has those.
    """
    return head.startswith(b"{") or b"\n{" in head


def looks_like_array(head: bytes) -> bool:
    """Whether content that starts like this is a JSON array of objects, however it is laid out.

    With one object a line, all but the first of them could pass for JSON lines.
    """
    return ARRAY_START.match(head) is not None


def looks_like_document(head: bytes) -> bool:
    """Whether content that starts like this is one JSON object over several lines."""
    first, newline, _ = head.partition(b"\n")
    return bool(newline) and first.strip() == b"{"


def read_jsonl(source: Source) -> Rows:
    """Yield every line that is not blank; a byte-order mark and CRLF are tolerated.

    A truncated or damaged stream ends with one `BadRow`; what came before is kept.

    Raises:
        UnreadableInput: it cannot be opened.
    """
    try:
        with opened(source) as stream:
            yield from _rows(stream)
    except DAMAGED as error:
        # Damage further on is a row; this is what stood there before and stands there no more.
        raise unreadable(source.place, error) from error


def _rows(stream: io.BufferedIOBase) -> Rows:
    for line in itertools.count(1):
        try:
            raw = stream.readline(MOST_LINE_BYTES)
            over = len(raw) == MOST_LINE_BYTES and not raw.endswith(b"\n") and _pass_over(stream)
        except DAMAGED as error:
            detail = f"nothing after line {line - 1} can be read: {error}; write the file again"
            yield BadRow(line, "damaged file", detail)
            return
        if not raw:
            return
        if line == 1:
            raw = raw.removeprefix(BOM)
        if over:
            yield BadRow(line, "over-long line", f"a line holds at most {MOST_LINE_BYTES:,} bytes")
        elif raw.strip():
            yield _parse(line, raw)


def _pass_over(stream: io.BufferedIOBase) -> bool:
    """The rest of a line; whether there was any."""
    rest = stream.readline(MOST_LINE_BYTES)
    over = bool(rest.strip())
    while rest and not rest.endswith(b"\n"):
        rest = stream.readline(MOST_LINE_BYTES)
    return over


def _parse(line: int, raw: bytes) -> Row | BadRow:
    if b"\0" in raw:
        return BadRow(line, "invalid text", "the line holds a NUL byte")
    try:
        value: Any = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(line, "invalid text", f"not UTF-8 at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return BadRow(line, "bad JSON", str(error)[:200])
    # Only where there are so many brackets at all, which few lines have.
    if raw.count(b"[") + raw.count(b"{") > DEEPEST_ROW and is_too_deep(value):
        return BadRow(line, "bad JSON", f"nested deeper than {DEEPEST_ROW} levels")
    if not isinstance(value, dict):
        return BadRow(line, "not an object", f"a record is a JSON object, got {_kind(value)}")
    return Row(line, value)


def _kind(value: object) -> str:
    return {list: "a list", str: "text", type(None): "null"}.get(type(value), type(value).__name__)
