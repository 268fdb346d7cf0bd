"""A Hugging Face dataset on disk: a folder of shards, each an Arrow stream.

Shards are read batch by batch, and the library that wrote them says what their columns are. It
could load the folder at once, but then one shard cut short costs all of them, and rows come as the
arrays or frames that the set was last used as.
"""

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow

from probing.carriers.readers.parquet import BATCH_ROWS, UNUSABLE, plain_row, records
from probing.carriers.readers.rows import BadRow, Rows
from probing.carriers.readers.sources import Source
from probing.errors import MissingPackage, UnreadableInput

STATE = "state.json"
JSON = "Json("
"""Stands in what the library says of a column that holds JSON, itself or somewhere inside."""
END = b"\xff\xff\xff\xff\0\0\0\0"
"""Ends every stream: one cut between two batches is not taken for whole."""


def read_dataset(source: Source) -> Rows:
    """Yield every row; `line` is its 1-based number.

    A shard that is damaged ends with a `BadRow`, which counts as one row; what came before it and
    other shards are kept.

    Raises:
        MissingPackage: the package datasets is not installed.
        UnreadableInput: the folder does not say what its shards are.
    """
    try:
        from datasets import Features
    except ImportError as error:
        raise MissingPackage(
            f"{source.place} is a Hugging Face dataset on disk, read by the package datasets, "
            "which is not installed; run `pip install 'ssd-probing[datasets]'`"
        ) from error
    line = 0
    for shard in _shards(source):
        try:
            with shard.open() as file, pyarrow.ipc.open_stream(file) as stream:
                columns = _of_json(stream.schema, Features)
                for batch in stream:
                    for fields in _records(batch):
                        line += 1
                        yield plain_row(line, _decoded(columns, fields))
                _check_end(file)
        except (*UNUSABLE, OSError, MemoryError) as error:
            line += 1
            detail = f"nothing more of {shard.name} can be read: {error!s:.200}; save the set again"
            yield BadRow(line, "damaged file", detail)


def _shards(source: Source) -> list[Source]:
    folder = source.place.rstrip("/")
    try:
        with Source(f"{folder}/{STATE}").open() as file:
            names = [str(each["filename"]) for each in json.load(file)["_data_files"]]
    except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
        raise UnreadableInput(
            f"{source.place} cannot be read as a dataset, because of its {STATE}: {error!s:.300}; "
            "save it again"
        ) from error
    return [Source(f"{folder}/{name}") for name in names]


def _records(batch: pyarrow.RecordBatch) -> Iterator[dict[str, Any] | Exception]:
    """The rows of a batch. Of a damaged one, none is read that points beyond what is there."""
    try:
        batch.validate(full=True)
    except UNUSABLE as fault:
        for index in range(batch.num_rows):
            one = batch.slice(index, 1)
            try:
                one.validate(full=True)
            except UNUSABLE:
                yield fault
            else:
                yield from records(one)
    else:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield from records(batch.slice(start, BATCH_ROWS))


def _of_json(schema: pyarrow.Schema, features: Any) -> Any:
    """The columns that hold JSON."""
    try:
        every = features.from_arrow_schema(schema)
    except Exception as error:
        # What the library raises of a damaged description has no type in common.
        raise ValueError(f"what it says of its columns is damaged: {error}") from error
    return features({name: each for name, each in every.items() if JSON in repr(each)})


def _decoded(columns: Any, fields: dict[str, Any] | Exception) -> dict[str, Any] | Exception:
    """A row with what its columns of JSON say."""
    if isinstance(fields, Exception):
        return fields
    try:
        return {**fields, **columns.decode_example({name: fields[name] for name in columns})}
    except Exception as error:
        return error


def _check_end(file: io.BufferedReader) -> None:
    file.seek(-len(END), os.SEEK_END)
    if file.read() != END:
        raise OSError("it ends early")
