"""Where a run lies: read access to its objects, on a local disk or behind an fsspec URL."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import fsspec
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from probing.errors import NotARun
from probing.store.objects import ObjectDigest, digest_of, mismatch, missing

LOCAL_SCHEMES = ("file://", "local://")

CHECKED_BYTES = 16 << 20
"""Objects up to this length are compared with their digests when they are first read."""


@runtime_checkable
class Place(Protocol):
    """Read access to objects by name."""

    location: str

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""

    def names(self, folder: str) -> list[str]:
        """What stands directly in a folder ("" is the place itself), sorted; may be empty."""

    def is_file(self) -> bool:
        """Whether the place is a file, and so no folder."""

    def sizes(self, names: Collection[str] | None = None) -> dict[str, int]:
        """Every object with its length in bytes, or those of these names that are there."""

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
            # Pages read thousands of objects: a `Path` of each takes as long as opening it.
            with open(f"{self.location}/{name}", "rb", buffering=0) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        """What stands directly in a folder ("" is the place itself), sorted; may be empty."""
        try:
            return sorted(os.listdir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def is_file(self) -> bool:
        """Whether the place is a file, and so no folder."""
        return self._root.is_file()

    def sizes(self, names: Collection[str] | None = None) -> dict[str, int]:
        """Every object with its length in bytes, or those of these names that are there."""
        if names is None:
            return dict(_walk(str(self._root), ""))
        return dict(_lengths(f"{self._root}/", names))

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


def _lengths(root: str, names: Collection[str]) -> Iterator[tuple[str, int]]:
    """Asked for one by one: many times as quick as a walk through as many folders."""
    for name in names:
        try:
            yield name, os.stat(root + name).st_size
        except (FileNotFoundError, NotADirectoryError):
            continue


class RemotePlace:
    """A folder behind an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.location = url
        try:
            self._fs, self._root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise NotARun(
                f"{url} must be a URL of a kind that fsspec reads here; {error}; install what it "
                "names, or copy the run to a local folder"
            ) from error
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

    def is_file(self) -> bool:
        """Whether the place is a file, and so no folder."""
        return bool(self._fs.isfile(self._root))

    def sizes(self, names: Collection[str] | None = None) -> dict[str, int]:
        """Every object with its length in bytes, or at least those of these names that are there.

        One listing tells of all of them.
        """
        root = f"{self._root.rstrip('/')}/"
        found = self._fs.find(self._root, detail=True)
        return {path.removeprefix(root): int(info["size"]) for path, info in found.items()}

    def store(self) -> Store:
        """The place as a Zarr store, read-only."""
        return FsspecStore.from_url(self.location, read_only=True)


def place_of(location: str) -> Place:
    """The place that a path or URL names; it need not exist."""
    folder = local_folder(location)
    return RemotePlace(location) if folder is None else LocalPlace(folder)


def local_folder(location: str) -> Path | None:
    """The folder on a local disk that a path or URL names; None for a place elsewhere."""
    for scheme in LOCAL_SCHEMES:
        if location.startswith(scheme):
            return Path(location.removeprefix(scheme))
    return None if "://" in location else Path(location)


class CommittedStore(WrapperStore[Store]):
    """A Zarr store in which every piece of an array must be there, and be what was written.

    Plain Zarr reads a lost object as fill, and one that stands in another's place as data. So an
    object is compared with its digest before anything of it is read for the first time.

    Args:
        store: where the objects are.
        digests: of the committed objects. Pieces of arrays that it does not name are only required
            to exist.
    """

    def __init__(self, store: Store, digests: Mapping[str, ObjectDigest] | None = None) -> None:
        super().__init__(store)
        self._digests = digests or {}
        self._checked: set[str] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The content of an object.

        Raises:
            CorruptRun: a piece of an array is missing, or is not what was written.
        """
        if "/c/" in key and key not in self._checked:
            await self._check(key)
        value = await super().get(key, prototype, byte_range)
        if value is None and "/c/" in key:
            raise missing(key)
        return value

    async def _check(self, key: str) -> None:
        expected = self._digests.get(key)
        # To fetch a larger object only for this would cost more than the chunks that are wanted;
        # those carry checksums of their own, and `verify` compares it.
        if expected is None or expected.bytes > CHECKED_BYTES:
            return
        whole = await super().get(key, default_buffer_prototype())
        if whole is None:
            raise missing(key)
        self.approve(key, whole.to_bytes())

    def approve(self, key: str, content: bytes) -> None:
        """Compare an object's content with its digest, once.

        Raises:
            CorruptRun: it is not what was written.
        """
        expected = self._digests.get(key)
        if expected is None or key in self._checked:
            return
        got = digest_of(content)
        if got != expected:
            raise mismatch(key, expected=expected, got=got)
        self._checked.add(key)
