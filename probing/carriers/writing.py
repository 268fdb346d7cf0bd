"""Carriers out, whole or not at all: JSONL, JSONL.zst or Parquet, by the file's ending."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from probing.carriers.fields import KNOWN, fields_of
from probing.carriers.readers.parquet import JSON_COLUMNS
from probing.carriers.record import Carrier
from probing.errors import UnwritablePath, UsageFault


def write_carriers(carriers: Sequence[Carrier], path: Path) -> None:
    """Write a file that `read_carriers` reads back as the same records.

    Raises:
        UsageFault: the ending is none of .jsonl, .jsonl.zst, .parquet.
        UnwritablePath: the file cannot be written; nothing is left behind.
    """
    if path.name.endswith(".parquet"):
        data = _parquet(carriers)
    elif path.name.endswith(".jsonl"):
        data = _jsonl(carriers)
    elif path.name.endswith(".jsonl.zst"):
        data = zstandard.ZstdCompressor().compress(_jsonl(carriers))
    else:
        raise UsageFault(f"carriers go to a .jsonl, .jsonl.zst or .parquet file, got {path}")
    _write_whole(data, path)


def _jsonl(carriers: Sequence[Carrier]) -> bytes:
    lines = (json.dumps(fields_of(carrier), ensure_ascii=False) for carrier in carriers)
    return "".join(f"{line}\n" for line in lines).encode()


def _parquet(carriers: Sequence[Carrier]) -> bytes:
    rows = []
    for carrier in carriers:
        fields = fields_of(carrier)
        row: dict[str, Any] = {name: fields.get(name) for name in KNOWN}
        extra = {key: value for key, value in fields.items() if key not in KNOWN}
        extra |= extra.pop("extra", {})
        row["extra"] = extra or None
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


def _write_whole(data: bytes, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UnwritablePath(f"cannot write {path}: {error.strerror}; choose another -o") from error
