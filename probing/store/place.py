"""Where a run lies: read access to its objects, on a local disk or behind an fsspec URL."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import fsspec
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from probing.store.objects import missing

LOCAL_SCHEMES = ("file://", "local://")


@runtime_checkable
class Place(Protocol):
    """Read access to objects by name."""

    location: str

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""

    def names(self, folder: str) -> list[str]:
        """What stands directly in a folder ("" is the place itself), sorted; may be empty."""

    def sizes(self) -> dict[str, int]:
        """Every object with its length in bytes."""

    def store(self) -> Store:
        """The place as a Zarr store, read-only."""


class LocalPlace:
    """A folder on a local disk."""

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self._root = root

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        """What stands directly in a folder ("" is the place itself), sorted; may be empty."""
        try:
            return sorted(os.listdir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self) -> dict[str, int]:
        """Every object with its length in bytes."""
        return dict(_walk(str(self._root), ""))

    def store(self) -> Store:
        """The place as a Zarr store, read-only."""
        return LocalStore(self._root, read_only=True)


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                yield from _walk(entry.path, f"{name}/")
                continue
            try:
                yield name, entry.stat().st_size
            except FileNotFoundError:  # a writer renamed its partial file meanwhile
                continue


class RemotePlace:
    """A folder behind an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.location = url
        self._fs, self._root = fsspec.url_to_fs(url)
        # Listings may be cached from before a writer went on.
        self._fs.invalidate_cache()

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""
        try:
            content: bytes = self._fs.cat_file(self._path(name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return content

    def names(self, folder: str) -> list[str]:
        """What stands directly in a folder ("" is the place itself), sorted; may be empty."""
        try:
            paths = self._fs.ls(self._path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def sizes(self) -> dict[str, int]:
        """Every object with its length in bytes."""
        root = f"{self._root.rstrip('/')}/"
        found = self._fs.find(self._root, detail=True)
        return {path.removeprefix(root): int(info["size"]) for path, info in found.items()}

    def store(self) -> Store:
        """The place as a Zarr store, read-only."""
        return FsspecStore.from_url(self.location, read_only=True)


def place_of(location: str) -> Place:
    """The place that a path or URL names; it need not exist."""
    for scheme in LOCAL_SCHEMES:
        if location.startswith(scheme):
            return LocalPlace(Path(location.removeprefix(scheme)))
    return RemotePlace(location) if "://" in location else LocalPlace(Path(location))


class CommittedStore(WrapperStore[Store]):
    """A Zarr store in which every piece of an array that is asked for must exist.

    Plain Zarr reads a lost object as fill. Only committed rows are ever asked for here, so an
    object that vanished after the run was opened is an error too.
    """

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The content of an object.

        Raises:
            CorruptRun: a piece of an array is missing.
        """
        value = await super().get(key, prototype, byte_range)
        if value is None and "/c/" in key:
            raise missing(key)
        return value
