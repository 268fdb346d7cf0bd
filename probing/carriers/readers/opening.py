"""A file's bytes as a stream, decompressed where the file is zstandard."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"
ENDINGS = (".jsonl", ".jsonl.zst", ".parquet")
"""What carrier files are written as and looked for in folders; reading goes by content."""
HEAD_BYTES = 4096
"""Enough of a file to tell its format."""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open for reading by lines or blocks; memory is bounded by the longest line.

    Concatenated zstandard frames read as one. Arrow's stream is used because a frame that ends
    early is an error to it; that of the zstandard package ends there as if all had been read.

    Raises:
        OSError: the file cannot be opened, or (while reading) the compression is damaged.
    """
    with path.open("rb") as file:
        if not file.peek(len(ZSTD_MAGIC)).startswith(ZSTD_MAGIC):
            yield file
            return
        with pyarrow.CompressedInputStream(file, "zstd") as frames:
            yield io.BufferedReader(frames)


def first_bytes(path: Path) -> bytes:
    """The start of the content, after a byte-order mark and blank lines; empty if that is all.

    Raises:
        OSError: as `opened`.
    """
    with opened(path) as stream:
        head = stream.read1(HEAD_BYTES).removeprefix(BOM)
        while not head.strip() and (block := stream.read1(HEAD_BYTES)):
            head = block
    return head.lstrip()
