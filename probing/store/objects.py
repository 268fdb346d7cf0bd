"""Objects of a run on disk: digests, sealed group documents, atomic and durable writes."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from probing.errors import CorruptRun, UnwritablePath
from probing.store.schema import METADATA, PARTIAL_SUFFIX

DIGEST = "digest"
LONGEST_OBJECT_NAME = 200


class ObjectDigest(NamedTuple):
    """What an object must be: its length in bytes and its SHA-256, in hexadecimal."""

    bytes: int
    sha256: str


def digest_of(data: bytes) -> ObjectDigest:
    """The digest of an object's content."""
    return ObjectDigest(len(data), hashlib.sha256(data).hexdigest())


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, ASCII only, no NaN."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False).encode()


def group_document(attributes: dict[str, Any]) -> bytes:
    """The `zarr.json` of a Zarr v3 group that holds these attributes."""
    return canonical({"attributes": attributes, "node_type": "group", "zarr_format": 3})


def sealed_document(attributes: dict[str, Any]) -> bytes:
    """A group document that also holds the SHA-256 of its own attributes."""
    own = hashlib.sha256(canonical(attributes)).hexdigest()
    return group_document({**attributes, DIGEST: own})


def read_group(data: bytes, *, name: str) -> dict[str, Any]:
    """The attributes of a group document that this package wrote.

    Raises:
        CorruptRun: not JSON, not a group, or not the bytes that `group_document` gives.
    """
    try:
        document = json.loads(data)
        attributes: dict[str, Any] = document["attributes"]
        unchanged = data == group_document(attributes)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRun(_corrupt(name, f"it does not parse ({error})")) from error
    if not unchanged:
        raise CorruptRun(_corrupt(name, "it is not as it was written"))
    return attributes


def read_sealed(data: bytes, *, name: str) -> dict[str, Any]:
    """The attributes of a sealed document, without the seal.

    Raises:
        CorruptRun: as `read_group`, or the attributes differ from the digest they carry.
    """
    attributes = read_group(data, name=name)
    own = attributes.pop(DIGEST, None)
    if own != hashlib.sha256(canonical(attributes)).hexdigest():
        raise CorruptRun(_corrupt(name, "it differs from the digest it carries"))
    return attributes


def sealed_attributes(data: bytes) -> dict[str, Any]:
    """The same of a document that is known to be what was written."""
    attributes: dict[str, Any] = json.loads(data)["attributes"]
    del attributes[DIGEST]
    return attributes


def _corrupt(name: str, fault: str) -> str:
    return (
        f"{name}: {fault}; committed objects never change; "
        "copy the run again, or delete it and score again"
    )


def missing(name: str) -> CorruptRun:
    """The error for a committed object that is gone."""
    return CorruptRun(_corrupt(name, "the object is missing"))


def mismatch(name: str, *, expected: ObjectDigest, got: ObjectDigest) -> CorruptRun:
    """The error for a committed object that is not what its digest says."""
    if expected.bytes != got.bytes:
        fault = f"it must have {expected.bytes} bytes, got {got.bytes}"
    else:
        fault = f"its SHA-256 must be {expected.sha256[:16]}…, got {got.sha256[:16]}…"
    return CorruptRun(_corrupt(name, fault))


def undecodable(name: str, cause: BaseException) -> CorruptRun:
    """The error for an object whose content Zarr cannot decode."""
    return CorruptRun(_corrupt(name, f"it does not decode ({cause})"))


def refused(path: Path, cause: OSError) -> UnwritablePath:
    """The error for a place that the operating system will not write."""
    return UnwritablePath(
        f"{path} cannot be written: {cause.strerror or cause}; a run needs a writable folder with "
        "free space; make room or choose another --out, then run the same command"
    )


def digests_to_json(digests: dict[str, ObjectDigest]) -> dict[str, Any]:
    """Digests as they stand in a seal."""
    return {name: digest._asdict() for name, digest in digests.items()}


def digests_from_json(document: dict[str, Any]) -> dict[str, ObjectDigest]:
    """The inverse of `digests_to_json`.

    Raises:
        ValueError: a name that no object of a run has, or a digest of the wrong form.
    """
    found = {name: ObjectDigest(**digest) for name, digest in document.items()}
    for name, digest in found.items():
        plain = name.isascii() and name.isprintable() and len(name) <= LONGEST_OBJECT_NAME
        if not plain or ".." in name.split("/") or name.startswith("/"):
            raise ValueError(f"an object is named {name[:40]!r}")
        if type(digest.bytes) is not int or type(digest.sha256) is not str:
            raise ValueError(f"the digest of {name} is {digest}")
    return found


def write_group(run: Path, name: str, document: bytes) -> None:
    """Write a group's document so that it is either absent or whole, and durable."""
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (METADATA + PARTIAL_SUFFIX)
    partial.write_bytes(document)
    sync(partial)
    partial.replace(folder / METADATA)
    for parent in (folder, folder.parent):
        sync(parent)


def sync_objects(run: Path, names: Iterable[str]) -> dict[str, ObjectDigest]:
    """Make objects durable, then read them back and return their digests.

    Zarr renames a finished file into place and does not sync it, so a power cut could leave an
    empty object under a commit: first the files, then the folders that name them.
    """
    ordered = sorted(names)
    folders: set[Path] = set()
    for name in ordered:
        path = run / name
        sync(path)
        folders |= {folder for folder in path.parents if folder.is_relative_to(run)}
    for folder in sorted(folders):
        sync(folder)
    return {name: digest_of((run / name).read_bytes()) for name in ordered}


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def objects_under(run: Path) -> list[str]:
    """Every file below a folder, relative to it, sorted."""
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
