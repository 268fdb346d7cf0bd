"""The parts of an `.eval` by hand: Python's zipfile lists them but cannot unpack zstandard."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import zstandard


class Place(NamedTuple):
    """Where the packed bytes of a part lie."""

    start: int
    stop: int


def places(path: Path) -> dict[str, Place]:
    """Where each part lies in the file."""
    data, found = path.read_bytes(), {}
    for member in zipfile.ZipFile(path).infolist():
        lengths = struct.unpack_from("<HH", data, member.header_offset + 26)
        start = member.header_offset + 30 + sum(lengths)
        found[member.filename] = Place(start, start + member.compress_size)
    return found


def parts(path: Path) -> dict[str, str]:
    """The text of each part, as the file has them."""
    data = path.read_bytes()
    unpacked = {
        name: zstandard.ZstdDecompressor()
        .decompressobj()
        .decompress(data[place.start : place.stop])
        for name, place in places(path).items()
    }
    return {name: text.decode() for name, text in unpacked.items()}


def pack(path: Path, texts: Mapping[str, str]) -> Path:
    """The same the other way round, without compression."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in texts.items():
            packed.writestr(name, text)
    return path
