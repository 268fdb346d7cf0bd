"""Any carrier files in: kept records, and every skipped one with its place and reason."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from probing.carriers.fields import Unusable, carrier_from_fields
from probing.carriers.readers.jsonl import looks_like_jsonl, read_jsonl
from probing.carriers.readers.opening import ENDINGS, first_bytes
from probing.carriers.readers.parquet import PARQUET_MAGIC, read_parquet
from probing.carriers.readers.rows import BadRow, Row
from probing.carriers.record import Carrier, ReadResult, Skipped
from probing.errors import NoCarriersLeft, RecordFault, UnreadableInput

FORMATS = "carrier JSONL, JSONL.zst or Parquet"
NEXT = "see README.md, section Carriers, for one line of the format"


def read_carriers(paths: Sequence[str], *, strict: bool = False) -> ReadResult:
    """Read every file, in order; formats are told by content.

    A record at fault is skipped and listed; ids must be unique over all files.

    Args:
        paths: files, or folders whose files of a known ending are read in the order of their names.
        strict: raise at the first skipped record instead.

    Raises:
        UnreadableInput: a file that is absent, empty, or of no known format; a folder without
            carrier files.
        RecordFault: `strict`, and a record was at fault.
        NoCarriersLeft: every record was skipped.
    """
    kept: list[Carrier] = []
    skipped: list[Skipped] = []
    first_seen: dict[str, str] = {}
    rows_read = 0
    for path in (file for given in paths for file in _files(Path(given))):
        before = rows_read
        for row in _rows(path):
            rows_read += 1
            outcome = _carrier(row, path, first_seen)
            if isinstance(outcome, Carrier):
                kept.append(outcome)
                continue
            if strict:
                raise RecordFault(
                    f"{outcome.file}:{outcome.line}: {outcome.reason}: {outcome.detail}; "
                    "mend the record, or leave out --strict to skip it"
                )
            skipped.append(outcome)
        if rows_read == before:
            raise _empty(path)
    if not kept:
        first = f"; the first: {_place(skipped[0])}" if skipped else ""
        raise NoCarriersLeft(
            f"no carrier left of {rows_read} records in {', '.join(paths)}{first}; {NEXT}"
        )
    return ReadResult(carriers=tuple(kept), skipped=tuple(skipped), rows_read=rows_read)


def _place(item: Skipped) -> str:
    return f"{item.file}:{item.line}: {item.reason}: {item.detail}"


def _files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        found = sorted(item for item in path.iterdir() if item.name.endswith(ENDINGS))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not found:
        raise UnreadableInput(f"{path} holds no file ending in {', '.join(ENDINGS)}; {NEXT}")
    return found


def _rows(path: Path) -> Iterator[Row | BadRow]:
    try:
        head = first_bytes(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not head:
        raise _empty(path)
    if head.startswith(PARQUET_MAGIC):
        return read_parquet(path)
    if looks_like_jsonl(head):
        return read_jsonl(path)
    raise UnreadableInput(
        f"{path} is of no known format: carriers are {FORMATS}; got {head[:20]!r}; {NEXT}"
    )


def _unreadable(path: Path, error: Exception) -> UnreadableInput:
    """Absent, forbidden, damaged from the first byte, or (ValueError) no path at all."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UnreadableInput(
        f"cannot read {str(path)!r}: a file or folder of {FORMATS} is needed, got: {reason}; "
        "check the path"
    )


def _empty(path: Path) -> UnreadableInput:
    return UnreadableInput(f"{path} is empty: carriers are {FORMATS}, got no record; {NEXT}")


def _carrier(row: Row | BadRow, path: Path, first_seen: dict[str, str]) -> Carrier | Skipped:
    if isinstance(row, BadRow):
        return Skipped(str(path), row.line, row.reason, row.detail)
    try:
        carrier = carrier_from_fields(row.fields)
    except Unusable as fault:
        return Skipped(str(path), row.line, fault.reason, fault.detail)
    if carrier.carrier_id in first_seen:
        # Its place may be this very one, where a file is given twice.
        detail = f"{carrier.carrier_id!r:.80} stands at {first_seen[carrier.carrier_id]} already"
        return Skipped(str(path), row.line, "duplicate id", detail)
    first_seen[carrier.carrier_id] = f"{path}:{row.line}"
    return carrier
