"""Comparing every object of a run with its digest."""

from dataclasses import dataclass
from typing import NamedTuple

from probing.errors import CorruptRun
from probing.store.objects import ObjectDigest
from probing.store.opening import (
    Finish,
    check_finish,
    check_object,
    commit_documents,
    read_commit,
    read_finish,
    read_layout,
    read_manifest,
    read_plan,
)
from probing.store.place import Place, place_of
from probing.store.plan import Plan
from probing.store.schema import FINISH_SEAL, MANIFEST, METADATA, PLAN, unit_name

MANIFEST_DOCUMENT, PLAN_DOCUMENT = f"{MANIFEST}/{METADATA}", f"{PLAN}/{METADATA}"


class Fault(NamedTuple):
    """One object that is missing or not as it was written."""

    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        location: of the run.
        objects: how many were compared with a digest.
        bytes: their length together.
        faults: objects that are missing or differ; empty when the run is sound.
        unsealed: objects that no commit names: of units under way, or foreign files.
        committed, planned: units.
        complete: the run is finished.
    """

    location: str
    objects: int
    bytes: int
    faults: tuple[Fault, ...]
    unsealed: tuple[str, ...]
    committed: int
    planned: int
    complete: bool

    def sentence(self) -> str:
        """The result in one sentence."""
        state = "complete" if self.complete else "incomplete"
        if not self.complete and not self.faults:
            state += ": the same `probing score` resumes it"
        extent = f"{self.committed} of {self.planned} units, {state}"
        checked = f"{self.objects} objects ({self.bytes / 1e6:.1f} MB) compared"
        extra = f"; {len(self.unsealed)} objects belong to no commit" if self.unsealed else ""
        verdict = f"{len(self.faults)} at fault" if self.faults else "all as they were written"
        return f"{self.location}: {checked}, {verdict} ({extent}){extra}"


class _Tally:
    """Faults and digests gathered on the way."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.expected: dict[str, ObjectDigest] = {}

    def blame(self, error: CorruptRun) -> None:
        self.faults.append(Fault(str(error)))


def verify(location: str) -> VerifyReport:
    """Read every object of a run and compare it with the digest taken when it was written.

    Nothing is changed. Faults are returned, all of them, not raised.

    Raises:
        NotARun: there is no run.
        NewerSchema: it was written by a newer version.
    """
    place = place_of(location)
    tally = _Tally()
    plan: Plan | None = None
    documents: dict[int, bytes] = {}
    finish: Finish | None = None
    try:
        layout = read_layout(place)
        tally.expected |= layout
        # Digests first: a damaged document can look like one of a newer version.
        check_object(place, PLAN_DOCUMENT, layout[PLAN_DOCUMENT])
        plan = read_plan(place)
        check_object(place, MANIFEST_DOCUMENT, layout[MANIFEST_DOCUMENT])
        read_manifest(place)
    except CorruptRun as error:
        tally.blame(error)
    if plan is not None:
        documents = commit_documents(place, plan)
        finish = _finish(place, documents, tally=tally)
        for unit, data in documents.items():
            try:
                tally.expected |= read_commit(data, plan=plan, unit=unit).objects
            except CorruptRun as error:
                tally.blame(error)
    _compare(place, tally)
    return VerifyReport(
        location=place.location,
        objects=len(tally.expected),
        bytes=sum(digest.bytes for digest in tally.expected.values()),
        faults=tuple(dict.fromkeys(tally.faults)),
        unsealed=_unsealed(place, documents, finish=finish, tally=tally),
        committed=len(documents),
        planned=0 if plan is None else len(plan.units),
        complete=finish is not None,
    )


def _finish(place: Place, documents: dict[int, bytes], *, tally: _Tally) -> Finish | None:
    data = place.read(f"{FINISH_SEAL}/{METADATA}")
    if data is None:
        return None
    try:
        finish = read_finish(data)
    except CorruptRun as error:
        tally.blame(error)
        return None
    tally.expected |= finish.objects
    try:
        check_finish(finish, documents)
    except CorruptRun as error:
        tally.blame(error)
    return finish


def _compare(place: Place, tally: _Tally) -> None:
    for name, expected in sorted(tally.expected.items()):
        try:
            check_object(place, name, expected)
        except CorruptRun as error:
            tally.blame(error)


def _unsealed(
    place: Place, documents: dict[int, bytes], *, finish: Finish | None, tally: _Tally
) -> tuple[str, ...]:
    if not tally.expected:
        return ()
    known = set(tally.expected) | {f"{unit_name(unit)}/{METADATA}" for unit in documents}
    known |= {"commits/layout/zarr.json", "commits/finish/zarr.json"}
    return tuple(sorted(place.sizes().keys() - known))
