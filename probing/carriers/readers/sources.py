"""Where responses lie: files, folders, globs, and fsspec URLs, each file a source."""

import glob
import io
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from probing.errors import UnreadableInput

ENDINGS = (".jsonl", ".json", ".ndjson", ".parquet", ".eval")
"""What logs are called in folders, compressed (`COMPRESSED`) or not; reading goes by content."""
COMPRESSED = ("", ".gz", ".zst")
DATASET_MARKS = ("state.json", "dataset_info.json")
"""Both stand in the folder of a Hugging Face dataset on disk."""


@dataclass(frozen=True)
class Source:
    """One file, or one folder that is a data set.

    Attributes:
        place: path or URL, as people are told of it.
        given: it was named itself, not found in a folder or by a glob.
        is_dataset: it is the folder of a Hugging Face dataset.
    """

    place: str
    given: bool = True
    is_dataset: bool = False

    @property
    def name(self) -> str:
        """The last part of the place."""
        return posixpath.basename(self.place.rstrip("/"))

    @property
    def is_url(self) -> bool:
        """Whether it lies behind an fsspec URL."""
        return "://" in self.place

    def open(self) -> io.BufferedReader:
        """The bytes as they lie there.

        Raises:
            OSError: it cannot be opened.
        """
        if not self.is_url:
            return Path(self.place).open("rb")
        return io.BufferedReader(_Remote(fsspec.open(self.place, "rb").open()))

    def beside(self, pattern: str) -> list["Source"]:
        """Files of the same folder whose name fits a glob pattern, sorted."""
        folder = self.place[: len(self.place) - len(self.name)]
        return _matching(f"{glob.escape(folder)}{pattern}", given=False)


class _Remote(io.RawIOBase):
    """A remote file as the raw side of a buffered reader."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Where the file system allows it."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """The present place."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, as far as there is something."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let it go."""
        if not self.closed:
            self._file.close()
        super().close()


def sources(given: str) -> list[Source]:
    """The files that a path, folder, glob or URL stands for, sorted by place.

    Folders are looked through with all they hold; files of other endings are passed over.

    Raises:
        UnreadableInput: nothing is there, or a folder holds no log.
    """
    try:
        found = _found(given)
    except (OSError, ValueError, ImportError) as error:
        raise unreadable(given, error) from error
    if not found:
        raise UnreadableInput(
            f"{given} stands for no file of responses: a folder or glob must hold one ending in "
            f"{', '.join(ENDINGS)} (.gz and .zst too), got none; check the path"
        )
    return found


def unreadable(place: str, error: Exception) -> UnreadableInput:
    """Absent, forbidden, damaged from the first byte, or (ValueError) no path at all."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UnreadableInput(
        f"cannot read {place!r}: a file or folder of responses is needed, got: {reason}; "
        "check the path"
    )


def _found(given: str) -> list[Source]:
    if "://" in given:
        return _remote(given)
    path = Path(given)
    if path.is_dir():
        return _folder(given)
    if path.exists() or not glob.has_magic(given):
        return [Source(given)]
    return _matching(given, given=False)


def _matching(pattern: str, *, given: bool) -> list[Source]:
    if "://" in pattern:
        system, path = url_to_fs(pattern)
        return [Source(system.unstrip_protocol(each), given) for each in sorted(system.glob(path))]
    found = [each for each in glob.glob(pattern, recursive=True) if Path(each).is_file()]
    return [Source(each, given) for each in sorted(found)]


def _folder(given: str) -> list[Source]:
    """Every log below a folder; a folder of a dataset is one source, and not looked into."""
    root = Path(given)
    if all((root / mark).is_file() for mark in DATASET_MARKS):
        return [Source(given, is_dataset=True)]
    datasets = {each.parent for each in root.rglob(DATASET_MARKS[0]) if _is_dataset(each.parent)}
    files = [
        each
        for each in root.rglob("*")
        if each.is_file() and _is_log(each.name) and not datasets & set(each.parents)
    ]
    found = [Source(str(each), False) for each in files]
    found += [Source(str(each), False, is_dataset=True) for each in datasets]
    return sorted(found, key=lambda source: source.place)


def _is_dataset(folder: Path) -> bool:
    return all((folder / mark).is_file() for mark in DATASET_MARKS)


def _remote(given: str) -> list[Source]:
    system, path = url_to_fs(given)
    if glob.has_magic(path) and not system.exists(path):
        return _matching(given, given=False)
    if not system.isdir(path):
        return [Source(given)]
    listed = sorted(system.find(path))
    return [Source(system.unstrip_protocol(each), False) for each in listed if _is_log(each)]


def _is_log(name: str) -> bool:
    return name.endswith(tuple(f"{end}{more}" for end in ENDINGS for more in COMPRESSED))
