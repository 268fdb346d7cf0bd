"""Where responses lie: files, folders, globs, and fsspec URLs, each file a source."""

import glob
import io
import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
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
DATASET_SPLITS = "dataset_dict.json"
"""Stands above the folders of a dataset's splits, and says no more than their names."""
SAMPLES, RESULTS = "samples_", "results_"
"""How lm-evaluation-harness begins the names of its logs, and of what it says of them all."""


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
    def folder(self) -> str:
        """The place without its last part, with the slash that ends it."""
        return self.place[: len(self.place) - len(self.name)]

    @property
    def is_url(self) -> bool:
        """Whether it lies behind an fsspec URL."""
        return "://" in self.place

    @property
    def key(self) -> str:
        """The same for one file, however its path is written."""
        return self.place if self.is_url else os.path.realpath(self.place)

    def open(self) -> io.BufferedReader:
        """The bytes as they lie there.

        Raises:
            OSError: it cannot be opened, or is a pipe: a source is opened several times.
        """
        if not self.is_url:
            mode = Path(self.place).stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError("it is no regular file (a pipe can be read only once: write a file)")
            return Path(self.place).open("rb")
        try:
            return io.BufferedReader(_Remote(fsspec.open(self.place, "rb").open()))
        except OSError:
            raise
        except Exception as error:
            raise OSError(_of_a_file_system(error)) from error

    def beside(self, pattern: str) -> list["Source"]:
        """Files of the same folder whose name fits a glob pattern, sorted."""
        matching = f"{glob.escape(self.folder)}{pattern}"
        if not self.is_url:
            return [Source(each, False) for each in sorted(glob.glob(matching))]
        system, path = url_to_fs(matching)
        return [Source(system.unstrip_protocol(each), False) for each in sorted(system.glob(path))]


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


@dataclass(frozen=True)
class Found:
    """What a path stands for.

    Attributes:
        sources: sorted by place.
        passed_over: files of a folder that are called nothing like a log, or that only describe
            logs, sorted.
    """

    sources: tuple[Source, ...]
    passed_over: tuple[str, ...] = ()


def sources(given: str) -> Found:
    """The files that a path, folder, glob or URL stands for.

    Folders are looked through with all they hold, links followed. What cannot be looked into, and
    links that lead nowhere, are sources too: they cannot be read, and reading says so.

    Raises:
        UnreadableInput: nothing is there, or a folder holds no log.
    """
    try:
        found = _found_remote(given) if "://" in given else _found(given)
    except Exception as error:
        # What remote file systems raise has no type in common.
        raise unreadable(given, error) from error
    if not found.sources:
        among = f" among {listed(found.passed_over)}" if found.passed_over else ""
        raise UnreadableInput(
            f"{given} stands for no file of responses: a folder or glob must hold one ending in "
            f"{', '.join(ENDINGS)} (.gz and .zst too), got none{among}; check the path"
        )
    return found


def listed(names: Sequence[str], *, most: int = 8) -> str:
    """So many names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(name[:200] for name in names[:most])}{more}"


def unreadable(place: str, error: Exception) -> UnreadableInput:
    """Absent, forbidden, damaged from the first byte, or (ValueError) no path at all."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UnreadableInput(
        f"cannot read {place!r}: a file or folder of responses is needed, got: {reason!s:.300}; "
        "check the path"
    )


def _of_a_file_system(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _found(given: str) -> Found:
    path = Path(given)
    if path.is_dir():
        return _below(given, list(_walked(given)))
    if path.exists() or not glob.has_magic(given):
        return Found((Source(given),))
    parts: list[Found] = []
    for each in sorted(glob.glob(given, recursive=True)):
        if Path(each).is_dir():
            parts.append(_below(each, list(_walked(each)), given=False))
        else:
            parts.append(Found((Source(each, False),)))
    return _together(parts)


def _found_remote(given: str) -> Found:
    system, path = url_to_fs(given)

    def below(folder: str, *, given: bool) -> Found:
        every = [system.unstrip_protocol(each) for each in system.find(folder)]
        return _below(system.unstrip_protocol(folder), every, given=given)

    if glob.has_magic(path) and not system.exists(path):
        matched = sorted(system.glob(path))
        return _together(
            [
                below(each, given=False)
                if system.isdir(each)
                else Found((Source(system.unstrip_protocol(each), False),))
                for each in matched
            ]
        )
    if system.isdir(path):
        return below(path, given=True)
    return Found((Source(given),))


def _walked(root: str) -> Iterator[str]:
    """Every file below a folder, links followed; also folders that cannot be looked into."""
    refused: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, inside, names in os.walk(
        root, followlinks=True, onerror=lambda error: refused.append(str(error.filename))
    ):
        # A link may lead back to where it stands.
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield from (os.path.join(folder, name) for name in names)
    yield from refused


def _below(root: str, files: list[str], *, given: bool = True) -> Found:
    """What the files of a folder are; a folder of a dataset is one source, not looked into.

    Args:
        root: the folder.
        files: all that stands below it.
        given: the folder itself was named.
    """
    names: dict[str, set[str]] = {}
    for each in files:
        names.setdefault(posixpath.dirname(each), set()).add(posixpath.basename(each))
    datasets = {folder for folder, inside in names.items() if inside.issuperset(DATASET_MARKS)}
    found = [Source(each, given and each == root.rstrip("/"), True) for each in datasets]
    passed_over: list[str] = []
    for each in files:
        folder, name = posixpath.split(each)
        if any(inner in datasets for inner in _upwards(folder)):
            continue
        describes = name == DATASET_SPLITS or is_results(name, names[folder])
        # What cannot be looked into is a folder, and never called like a log.
        if describes or not (is_log(name) or os.path.isdir(each)):
            passed_over.append(each)
        else:
            found.append(Source(each, False))
    ordered = sorted(found, key=lambda source: source.place)
    return Found(tuple(ordered), tuple(sorted(passed_over)))


def _upwards(folder: str) -> Iterator[str]:
    """A folder and all that hold it."""
    while folder not in ("", "/"):
        yield folder
        folder = posixpath.dirname(folder)


def _together(parts: Sequence[Found]) -> Found:
    """Several, each place once: a glob may match a folder and what lies in it."""
    each_once = {source.place: source for part in parts for source in part.sources}
    passed_over = {place for part in parts for place in part.passed_over} - each_once.keys()
    ordered = tuple(each_once[place] for place in sorted(each_once))
    return Found(ordered, tuple(sorted(passed_over)))


def is_log(name: str) -> bool:
    """Whether a file is called like a log."""
    return name.lower().endswith(tuple(f"{end}{more}" for end in ENDINGS for more in COMPRESSED))


def is_results(name: str, beside: set[str]) -> bool:
    """Whether a file is what lm-evaluation-harness writes beside its logs, which names the model.

    Args:
        name: of the file.
        beside: names of the files of its folder.
    """
    return name.startswith(RESULTS) and any(each.startswith(SAMPLES) for each in beside)
