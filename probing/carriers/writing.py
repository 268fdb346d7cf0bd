"""Carriers out, whole or not at all: JSONL, JSONL.zst or Parquet, by the file's ending."""

import contextlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from probing.carriers.fields import KNOWN, Unusable, carrier_from_fields, fields_of
from probing.carriers.readers.parquet import JSON_COLUMNS
from probing.carriers.record import Carrier
from probing.errors import NoCarriersLeft, RecordFault, UnwritablePath, UsageFault

ENDINGS = (".jsonl", ".jsonl.zst", ".parquet")
"""What carrier files are written as."""


def write_carriers(carriers: Sequence[Carrier], path: Path) -> None:
    """Write a file that `read_carriers` reads back as the same records.

    The file is there whole or not at all; one that stood there before stays until then.

    Raises:
        UsageFault: the ending is none of .jsonl, .jsonl.zst, .parquet.
        NoCarriersLeft: there is nothing to write.
        RecordFault: a carrier would not be read back, for instance for a lone surrogate.
        UnwritablePath: the file cannot be written; nothing is left behind.
    """
    if not path.name.endswith(ENDINGS):
        raise UsageFault(f"carriers go to a {', '.join(ENDINGS)} file, got {path}; mend -o")
    if not carriers:
        raise NoCarriersLeft(f"a carrier file holds at least one record, got none for {path}")
    _check_read_back(carriers)
    if path.name.endswith(".parquet"):
        data = _parquet(carriers)
    elif path.name.endswith(".jsonl"):
        data = _jsonl(carriers)
    else:
        data = zstandard.ZstdCompressor().compress(_jsonl(carriers))
    write_whole(data, path)


def _check_read_back(carriers: Sequence[Carrier]) -> None:
    """Refuse what reading would skip, by the reader's own rules."""
    seen: set[str] = set()
    for carrier in carriers:
        fields = fields_of(carrier)
        try:
            carrier_from_fields(fields)
            json.dumps([carrier.messages, carrier.extra])  # the rest has been checked
        except Unusable as fault:
            raise _not_written(carrier, str(fault)) from fault
        except (TypeError, ValueError) as error:
            raise _not_written(carrier, f"wrong type: {error}") from error
        if carrier.carrier_id in seen:
            raise _not_written(carrier, "duplicate id: another carrier has it already")
        seen.add(carrier.carrier_id)


def _not_written(carrier: Carrier, fault: str) -> RecordFault:
    return RecordFault(
        f"carrier {carrier.carrier_id!r:.80} would not be read back: {fault}; "
        "mend the record, or leave it out"
    )


def _jsonl(carriers: Sequence[Carrier]) -> bytes:
    lines = (json.dumps(fields_of(carrier), ensure_ascii=False) for carrier in carriers)
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(carriers: Sequence[Carrier]) -> bytes:
    rows = []
    for carrier in carriers:
        fields = fields_of(carrier)
        row: dict[str, Any] = {name: fields.get(name) for name in KNOWN}
        row["extra"] = carrier.extra or None
        for name in JSON_COLUMNS:
            if row[name] is not None:
                row[name] = json.dumps(row[name], ensure_ascii=False)
        rows.append(row)
    target = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=_SCHEMA), target)
    return target.getvalue()


_TYPES = {
    "prompt_token_ids": pyarrow.list_(pyarrow.int32()),
    "response_token_ids": pyarrow.list_(pyarrow.int32()),
    "correct": pyarrow.bool_(),
    "temperature": pyarrow.float64(),
    "sampling_probability": pyarrow.float64(),
}
_SCHEMA = pyarrow.schema([(name, _TYPES.get(name, pyarrow.string())) for name in (*KNOWN, "extra")])


def write_whole(data: bytes, path: Path) -> None:
    """Put a file in place whole or not at all; what stood there before stays until then.

    Raises:
        UnwritablePath: the file cannot be written, or the path is no regular file.
    """
    _require_file(path)
    unfinished = _unfinished(path)
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        # After the rename nothing stands there. Where no file could be made, none can be removed.
        with contextlib.suppress(OSError):
            unfinished.unlink()


def require_writable(path: Path) -> None:
    """Refuse a file that `write_whole` could not put in place, before the work that fills it.

    Raises:
        UnwritablePath: no file can be made there, or the path is no regular file.
    """
    _require_file(path)
    try:
        with _unfinished(path).open("wb"):
            pass
        _unfinished(path).unlink()
    except OSError as error:
        raise _refused(path, error) from error


def _require_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise UnwritablePath(f"cannot write {path}: it is no regular file; choose another")


def _unfinished(path: Path) -> Path:
    """Where a file grows: in the same folder, as a rename is whole only within one file system."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _refused(path: Path, error: OSError) -> UnwritablePath:
    return UnwritablePath(f"cannot write {path}: {error.strerror or error}; choose another")
