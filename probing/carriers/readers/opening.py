"""A source's bytes as a stream, decompressed where it is gzip or zstandard."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow

from probing.carriers.readers.sources import Source

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"
BOM = b"\xef\xbb\xbf"
HEAD_BYTES = 1 << 16
"""Enough of a file to tell its format."""
BLOCK_BYTES = 1 << 12
DAMAGED = (OSError, EOFError, zlib.error)
"""What reading a damaged or truncated stream raises."""


@contextmanager
def opened(source: Source) -> Iterator[io.BufferedIOBase]:
    """Open for reading by lines or blocks; memory is bounded by what is read at once.

    Concatenated frames and members read as one. Arrow's zstandard stream is used because a frame
    that ends early is an error to it; that of the zstandard package ends there as if all had been
    read.

    Raises:
        OSError: the source cannot be opened.
        DAMAGED: (while reading) the compression is damaged, or ends early.
    """
    with source.open() as file:
        magic = file.peek(len(ZSTD_MAGIC))
        if magic.startswith(ZSTD_MAGIC):
            with pyarrow.CompressedInputStream(file, "zstd") as frames:
                yield io.BufferedReader(frames)
        elif magic.startswith(GZIP_MAGIC):
            with gzip.GzipFile(fileobj=file) as members:
                yield members
        else:
            yield file


def raw_start(source: Source) -> bytes:
    """The very first bytes, as they lie there.

    Raises:
        OSError: the source cannot be opened.
    """
    with source.open() as file:
        return file.read(len(ZSTD_MAGIC))


def first_bytes(source: Source) -> bytes:
    """The start of the content, after a byte-order mark and blank lines; empty if that is all.

    Of a stream that is damaged further on, what comes before the damage.

    Raises:
        DAMAGED: as `opened`, from the first byte on.
    """
    head = b""
    with opened(source) as stream:
        try:
            while len(head) < HEAD_BYTES and (block := stream.read1(BLOCK_BYTES)):
                head = (head + block).removeprefix(BOM).lstrip()
        except DAMAGED:
            if not head:
                raise
    return head
