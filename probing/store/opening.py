"""Opening a run: what is committed, checked against the seals before anything is read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from probing.errors import CorruptRun, NewerSchema, NotARun
from probing.store.manifest import Manifest
from probing.store.objects import (
    ObjectDigest,
    digest_of,
    digests_from_json,
    mismatch,
    missing,
    read_group,
    read_sealed,
    sealed_attributes,
)
from probing.store.place import Place
from probing.store.plan import Plan
from probing.store.schema import (
    COMMITS,
    FINISH_SEAL,
    FORMAT,
    LAYOUT_SEAL,
    MANIFEST,
    METADATA,
    PLAN,
    SCHEMA_VERSION,
    unit_name,
)

LISTED = 10

Read = TypeVar("Read")


class Commit(NamedTuple):
    """One unit's commit object: which rows are there, and what its shards must be."""

    unit: int
    row_start: int
    rows: int
    capacity: int
    carriers: int
    candidates: int
    notes: dict[str, Any]
    objects: dict[str, ObjectDigest]


class Finish(NamedTuple):
    """The last commit: every unit's commit, the default statistics, and the summary."""

    commits: dict[str, ObjectDigest]
    objects: dict[str, ObjectDigest]
    decoding: dict[str, Any]
    rule: dict[str, Any]
    rows: int
    summary: dict[str, Any]


@dataclass(frozen=True)
class Opened:
    """The committed state of a run at one instant.

    Attributes:
        manifest, plan: as they were written at the start.
        commits: by unit, ascending.
        finish: the last commit, or None while the run is being written.
        objects: the digests of all that was committed.
        fingerprint: SHA-256 over the manifest and all commits.
    """

    manifest: Manifest
    plan: Plan
    commits: tuple[Commit, ...]
    finish: Finish | None
    objects: dict[str, ObjectDigest]
    fingerprint: str


def open_committed(place: Place) -> Opened:
    """Read the seals and commits of a run and check every object they name.

    Metadata are compared with their digests; arrays' objects by existence and size (`verify`
    compares their digests). Objects that no commit names are not looked at, so a run can be opened
    while it is written.

    Raises:
        NotARun, NewerSchema, CorruptRun: see `probing.errors`.
    """
    layout = read_layout(place)
    for name, expected in layout.items():
        if name.endswith(METADATA):
            check_object(place, name, expected)
    manifest, plan = read_manifest(place), read_plan(place)
    # The last commit first: had it been there, every unit's commit would be there too.
    finish_bytes = place.read(f"{FINISH_SEAL}/{METADATA}")
    finish = None if finish_bytes is None else read_finish(finish_bytes)
    documents = commit_documents(place, plan)
    check_finish(finish, documents)
    # The last commit has told that those it names are what was written.
    sealed = frozenset() if finish is None else finish.commits.keys()
    commits = tuple(
        read_commit(data, plan=plan, unit=unit, sealed=unit_name(unit) in sealed)
        for unit, data in documents.items()
    )
    finished = {} if finish is None else finish.objects
    objects = layout | finished
    for commit in commits:
        objects |= commit.objects
    # After the commits: what they name was there before them.
    check_sizes(objects, place.sizes(objects))
    for name, expected in finished.items():
        if name.endswith(METADATA):
            check_object(place, name, expected)
    manifest_bytes = place.read(f"{MANIFEST}/{METADATA}") or b""
    parts = [manifest_bytes, *documents.values(), finish_bytes or b""]
    return Opened(manifest, plan, commits, finish, objects, _fingerprint(parts))


def _fingerprint(parts: list[bytes]) -> str:
    # The digest of each part, so that moving a byte from one part to the next changes the whole.
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def read_layout(place: Place) -> dict[str, ObjectDigest]:
    """The digests of everything written when the run was begun.

    Raises:
        NotARun: there is neither a run's root nor its seal.
        NewerSchema: the run was written by a newer version.
        CorruptRun: root or seal is missing or damaged.
    """
    root_name, seal_name = METADATA, f"{LAYOUT_SEAL}/{METADATA}"
    root, seal = place.read(root_name), place.read(seal_name)
    if seal is None:
        if root is None or _format_of(root) != FORMAT:
            raise not_a_run(place)
        _check_version(place, root)
        raise missing(seal_name)
    if root is not None and _format_of(root) != FORMAT and b'"objects"' not in seal:
        raise not_a_run(place)
    layout = digests_from_json(
        parse(seal_name, lambda: read_sealed(seal, name=seal_name))["objects"]
    )
    if root is None:
        raise missing(root_name)
    expected = layout.get(root_name)
    if expected is None:
        raise missing(f"{seal_name}: the digest of {root_name}")
    if digest_of(root) != expected:
        raise mismatch(root_name, expected=expected, got=digest_of(root))
    _check_version(place, root)
    return layout


def _format_of(root: bytes) -> object:
    try:
        return json.loads(root)["attributes"]["format"]
    except (ValueError, KeyError, TypeError):
        return None


def _check_version(place: Place, root: bytes) -> None:
    version = json.loads(root)["attributes"].get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise NewerSchema(
            f"{place.location} has schema version {version}; this version of probing reads up to "
            f"{SCHEMA_VERSION}; run `pip install --upgrade ssd-probing`"
        )


def not_a_run(place: Place) -> NotARun:
    """The error for a place that holds no run; it lists what there is."""
    found = place.names("")
    if place.is_file():
        there = "it is a file"
    elif found:
        more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
        there = f"it holds {', '.join(found[:LISTED])}{more}"
    else:
        there = "it is empty or does not exist"
    return NotARun(
        f"{place.location} is not a run (a folder NAME.zarr written by `probing score`): {there}; "
        "give the folder of a run"
    )


def parse(name: str, read: Callable[[], Read]) -> Read:
    """Call a reader of a sealed document; a missing or unexpected field is `CorruptRun` too."""
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptRun(f"{name}: a field is missing or of the wrong form ({error})") from error


def check_object(place: Place, name: str, expected: ObjectDigest) -> None:
    """Compare an object with its digest.

    Raises:
        CorruptRun: it is missing or differs.
    """
    data = place.read(name)
    if data is None:
        raise missing(name)
    got = digest_of(data)
    if got != expected:
        raise mismatch(name, expected=expected, got=got)


def check_sizes(objects: dict[str, ObjectDigest], sizes: dict[str, int]) -> None:
    """Compare objects with what a listing says of them.

    Raises:
        CorruptRun: one is missing or has another length.
    """
    for name, expected in objects.items():
        if name not in sizes:
            raise missing(name)
        if sizes[name] != expected.bytes:
            got = ObjectDigest(sizes[name], "")
            raise mismatch(name, expected=expected, got=got)


def read_manifest(place: Place) -> Manifest:
    """The manifest.

    Raises:
        NewerSchema: it holds settings that this version does not know.
    """
    name = f"{MANIFEST}/{METADATA}"
    attributes = read_group(_required(place, name), name=name)
    try:
        return Manifest.from_json(attributes)
    except (ValidationError, TypeError, KeyError) as error:
        raise NewerSchema(
            f"{place.location}: {name} does not fit this version of probing ({error}); "
            "run `pip install --upgrade ssd-probing`"
        ) from error


def read_plan(place: Place) -> Plan:
    """The plan."""
    name = f"{PLAN}/{METADATA}"
    attributes = read_group(_required(place, name), name=name)
    try:
        return Plan.from_json(attributes)
    except (TypeError, KeyError) as error:
        raise NewerSchema(
            f"{place.location}: {name} does not fit this version of probing ({error}); "
            "run `pip install --upgrade ssd-probing`"
        ) from error


def _required(place: Place, name: str) -> bytes:
    data = place.read(name)
    if data is None:
        raise missing(name)
    return data


def commit_documents(place: Place, plan: Plan) -> dict[int, bytes]:
    """The commit object of every committed unit, by unit."""
    present = set(place.names(COMMITS))
    documents: dict[int, bytes] = {}
    for unit in plan.units:
        name = unit_name(unit.index)
        if name.rsplit("/", 1)[-1] in present:
            # A folder without its document belongs to a unit that is being committed.
            data = place.read(f"{name}/{METADATA}")
            if data is not None:
                documents[unit.index] = data
    return documents


def read_commit(data: bytes, *, plan: Plan, unit: int, sealed: bool = False) -> Commit:
    """A unit's commit.

    Args:
        data: the document.
        plan: of the run.
        unit: which one it must be of.
        sealed: it was compared with a digest already; its own seal, which takes ten times as
            long as parsing, is not looked at.

    Raises:
        CorruptRun: damaged, or of another unit than its name says.
    """
    name = f"{unit_name(unit)}/{METADATA}"

    def read() -> Commit:
        attributes = sealed_attributes(data) if sealed else read_sealed(data, name=name)
        return Commit(**{**attributes, "objects": digests_from_json(attributes["objects"])})

    commit = parse(name, read)
    planned = plan.units[unit]
    if (commit.unit, commit.row_start, commit.rows) != (unit, planned.row_start, planned.rows):
        raise CorruptRun(
            f"{name}: it must commit unit {unit} ({planned.rows} rows from {planned.row_start}), "
            f"got unit {commit.unit} ({commit.rows} rows from {commit.row_start})"
        )
    return commit


def read_finish(data: bytes) -> Finish:
    """The last commit.

    Raises:
        CorruptRun: damaged.
    """
    name = f"{FINISH_SEAL}/{METADATA}"

    def read() -> Finish:
        attributes = read_sealed(data, name=name)
        digests = {key: digests_from_json(attributes[key]) for key in ("commits", "objects")}
        return Finish(**{**attributes, **digests})

    return parse(name, read)


def check_finish(finish: Finish | None, documents: dict[int, bytes]) -> None:
    """A finished run must have every commit that its last commit names.

    Raises:
        CorruptRun: one is missing or differs.
    """
    if finish is None:
        return
    found = {unit_name(unit): data for unit, data in documents.items()}
    for name, expected in finish.commits.items():
        if name not in found:
            raise missing(f"{name}/{METADATA}")
        got = digest_of(found[name])
        if got != expected:
            raise mismatch(f"{name}/{METADATA}", expected=expected, got=got)
