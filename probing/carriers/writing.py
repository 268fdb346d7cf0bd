"""Carriers out, whole or not at all: JSONL, JSONL.zst or Parquet, by the file's ending."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
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


BATCH_CARRIERS = 1024
"""So many are turned into a row group of Parquet, or a block of compressed lines, at a time."""


def write_carriers(carriers: Iterable[Carrier], path: Path) -> None:
    """Write a file that `read_carriers` reads back as the same records; see `CarrierWriter`.

    Raises:
        UsageFault, NoCarriersLeft, RecordFault, UnwritablePath: as `CarrierWriter`.
    """
    with CarrierWriter(path) as writer:
        for carrier in carriers:
            writer.add(carrier)


class CarrierWriter:
    """A file of carriers that grows beside its place and stands there when all is well.

    The file is there whole or not at all; one that stood there before stays until then. Memory is
    bounded by `BATCH_CARRIERS` carriers and 8 bytes of digest an id.

    Attributes:
        path: where it goes.
        written: carriers so far.
        whole: it stands there.

    Raises:
        UsageFault: the ending is none of `ENDINGS`.
        UnwritablePath: the file cannot be written; nothing is left behind.
    """

    def __init__(self, path: Path) -> None:
        if not path.name.endswith(ENDINGS):
            raise UsageFault(f"carriers go to a {', '.join(ENDINGS)} file, got {path}; mend -o")
        _require_file(path)
        self.path, self.written, self.whole = path, 0, False
        self._seen: set[bytes] = set()
        self._waiting: list[Carrier] = []

    def __enter__(self) -> "CarrierWriter":
        try:
            self._file = _unfinished(self.path).open("wb")
        except OSError as error:
            raise _refused(self.path, error) from error
        self._parts = _parts_for(self.path, self._file)
        return self

    def add(self, carrier: Carrier) -> None:
        """One more carrier.

        Raises:
            RecordFault: it would not be read back, for instance for a lone surrogate.
            UnwritablePath: the file cannot be written.
        """
        _check_read_back(carrier)
        digest = hashlib.blake2b(carrier.carrier_id.encode(), digest_size=8).digest()
        if digest in self._seen:
            raise _not_written(carrier, "duplicate id: another carrier has it already")
        self._seen.add(digest)
        self._waiting.append(carrier)
        if len(self._waiting) == BATCH_CARRIERS:
            self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            if waiting:
                self._parts.write(waiting)
        except OSError as error:
            raise _refused(self.path, error) from error
        self.written += len(waiting)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in place, or take away what there is of it.

        Raises:
            NoCarriersLeft: there was nothing to write.
            UnwritablePath: the file cannot be written.
        """
        try:
            if error is None:
                self._finish()
        finally:
            # Of a file that is given up, its writer too: left alone, it would write at its end.
            with contextlib.suppress(OSError, ValueError, pyarrow.ArrowException):
                self._parts.close()
            self._file.close()
            # After the rename nothing stands there.
            with contextlib.suppress(OSError):
                _unfinished(self.path).unlink()

    def _finish(self) -> None:
        self._flush()
        if not self.written:
            raise NoCarriersLeft(
                f"a carrier file holds at least one record, got none for {self.path}"
            )
        try:
            self._parts.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            _unfinished(self.path).replace(self.path)
            self.whole = True
        except OSError as error:
            raise _refused(self.path, error) from error


class _Lines:
    """JSON lines, compressed or not."""

    def __init__(self, file: io.BufferedWriter, *, compressed: bool) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor().compressobj() if compressed else None

    def write(self, carriers: Sequence[Carrier]) -> None:
        data = "".join(
            f"{json.dumps(fields_of(carrier), ensure_ascii=False)}\n" for carrier in carriers
        ).encode()
        self._file.write(data if self._compressor is None else self._compressor.compress(data))

    def close(self) -> None:
        if self._compressor is not None:
            self._file.write(self._compressor.flush())
            self._compressor = None


class _Rows:
    """Parquet, a row group a batch."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(file, _SCHEMA)

    def write(self, carriers: Sequence[Carrier]) -> None:
        self._writer.write_table(
            pyarrow.Table.from_pylist([_row(each) for each in carriers], schema=_SCHEMA)
        )

    def close(self) -> None:
        self._writer.close()


def _parts_for(path: Path, file: io.BufferedWriter) -> _Lines | _Rows:
    if path.name.endswith(".parquet"):
        return _Rows(file)
    return _Lines(file, compressed=path.name.endswith(".zst"))


def _check_read_back(carrier: Carrier) -> None:
    """Refuse what reading would skip, by the reader's own rules."""
    try:
        carrier_from_fields(fields_of(carrier))
        json.dumps([carrier.messages, carrier.extra])  # the rest has been checked
    except Unusable as fault:
        raise _not_written(carrier, str(fault)) from fault
    except (TypeError, ValueError) as error:
        raise _not_written(carrier, f"wrong type: {error}") from error


def _not_written(carrier: Carrier, fault: str) -> RecordFault:
    return RecordFault(
        f"carrier {carrier.carrier_id!r:.80} would not be read back: {fault}; "
        "mend the record, or leave it out"
    )


def _row(carrier: Carrier) -> dict[str, Any]:
    fields = fields_of(carrier)
    row: dict[str, Any] = {name: fields.get(name) for name in KNOWN}
    row["extra"] = carrier.extra or None
    for name in JSON_COLUMNS:
        if row[name] is not None:
            row[name] = json.dumps(row[name], ensure_ascii=False)
    return row


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
