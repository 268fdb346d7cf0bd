"""Writing a run: one process, whole units, each committed once its objects are on the disk."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.storage import LocalStore

from probing.carriers.record import Carrier
from probing.errors import RunDiffers, UnwritablePath
from probing.store.arrays import Content, create_array, stored_form, write_flat
from probing.store.defaults import STATISTICS_KEPT_BYTES, write_statistics
from probing.store.lock import RunLock
from probing.store.log import RunLog
from probing.store.manifest import Manifest, changes, differences
from probing.store.objects import (
    digest_of,
    digests_to_json,
    group_document,
    objects_under,
    refused,
    sealed_document,
    sync,
    sync_objects,
    write_group,
)
from probing.store.plan import Plan, Unit
from probing.store.reader import Run, open_run
from probing.store.schema import (
    CARRIERS,
    COMMITS,
    FINISH_SEAL,
    FORMAT,
    LAYOUT_SEAL,
    MANIFEST,
    METADATA,
    PARTIAL_SUFFIX,
    PLAN,
    POSITION_ARRAYS,
    SCHEMA_VERSION,
    STATISTICS,
    TAIL_RESOLUTION,
    VOCABULARY,
    axis_sizes,
    position_grid,
    unit_name,
    unit_objects,
)
from probing.store.texts import carrier_arrays, vocabulary_arrays
from probing.store.unit import UnitArrays
from probing.tokens.encoded import EncodedCarrier
from probing.vocabulary import PADDING_ID


class Texts(NamedTuple):
    """What is stored of the text: carriers, the same as tokens, and the raw bytes of every id.

    `vocabulary_bytes` has an entry for each of the ids 0 … V - 1; nothing where an id has no token.
    """

    carriers: Sequence[Carrier]
    encoded: Sequence[EncodedCarrier]
    vocabulary_bytes: Sequence[bytes]


class RunWriter:
    """The only writer of a run; made by `create` or `resume`, used as a context manager.

    The lock beside the run is held until the context ends. Whatever happens, the units committed
    so far stay readable, and `resume` goes on with the rest.
    """

    def __init__(self, path: Path, *, lock: RunLock, run: Run) -> None:
        self.path = path
        self.plan = run.plan
        self.manifest = run.manifest
        self.committed: set[int] = set(run.committed)
        self.complete = run.complete
        self.log = RunLog(path)
        self._lock = lock
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._sizes = axis_sizes(run.manifest, run.plan)

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        plan: Plan,
        manifest: Manifest,
        texts: Texts,
        lock: RunLock | None = None,
    ) -> "RunWriter":
        """Begin a run: built beside its place and renamed, so it is there whole or not at all.

        Args:
            path: where the run goes; must not exist.
            plan: see `make_plan`; its carriers are indices into those of the texts.
            manifest: see `Manifest`.
            texts: of all carriers of the run.
            lock: of `lock_run`, if the caller has it; given up when the writer is closed.

        Raises:
            UnwritablePath: the place exists already or cannot be written.
            RunBusy: another process writes there.
        """
        run = Path(path)
        if len(texts.vocabulary_bytes) != manifest.vocabulary_size:
            raise ValueError(
                f"vocabulary_bytes must have one entry per id ({manifest.vocabulary_size}), got "
                f"{len(texts.vocabulary_bytes)}"
            )
        lock = lock or lock_run(run)
        try:
            _refuse_existing(run)
            # Of a run that stood here and was deleted: its units and its memory are not this one's.
            RunLog(run).path.unlink(missing_ok=True)
            _build(run, plan=plan, manifest=manifest, texts=texts)
            writer = cls(run, lock=lock, run=open_run(str(run)))
            writer.log.append("created", units=len(plan.units), positions=plan.rows)
        except BaseException:
            lock.release()
            raise
        return writer

    @classmethod
    def resume(
        cls, path: str | Path, *, plan: Plan, manifest: Manifest, lock: RunLock | None = None
    ) -> "RunWriter":
        """Go on with a run; `committed` tells which units need no scoring.

        Args:
            path: of the run.
            plan: as it would be if the run were begun now.
            manifest: likewise.
            lock: as `create`.

        Raises:
            RunDiffers: the manifest or plan is not the stored one; the differing keys are listed.
            RunBusy: another process writes it.
            NotARun, NewerSchema, CorruptRun: as `open_run`.
        """
        run = Path(path)
        lock = lock or lock_run(run)
        try:
            opened = open_run(str(run))
            _refuse_differences(run, opened, plan=plan, manifest=manifest)
            for partial in sorted(run.rglob(f"*{PARTIAL_SUFFIX}")):
                partial.unlink(missing_ok=True)
            writer = cls(run, lock=lock, run=opened)
            writer._log_what_was_found()
        except BaseException:
            lock.release()
            raise
        return writer

    def _log_what_was_found(self) -> None:
        """One `committed` line for every unit: a kill right after a commit left none."""
        logged = {e.get("unit") for e in self.log.entries() if e.get("event") == "committed"}
        for index in sorted(self.committed - logged):
            rows = self.plan.units[index].rows
            self.log.append("committed", unit=index, positions=rows, found_at_resume=True)
        self.log.append("resumed", committed=len(self.committed), units=len(self.plan.units))

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock up."""
        self._lock.release()

    def write_unit(
        self, unit: Unit, arrays: UnitArrays, *, notes: dict[str, Any] | None = None
    ) -> None:
        """Write a unit's shards, make them durable, then commit.

        Args:
            unit: of the plan; not committed yet.
            arrays: rows in the plan's order.
            notes: JSON values kept with the commit, such as a smaller token budget.

        Raises:
            ValueError: arrays that do not fit the plan, or a unit that is committed.
            UnwritablePath: the disk refuses; units committed before stay.
        """
        self._check_unit(unit, arrays)
        started = time.monotonic()
        stored = stored_form(arrays, capacity=unit.capacity, sizes=self._sizes)
        names = unit_objects(self.plan.shards(unit))
        try:
            # Left by a run that was killed before its commit; Zarr would read them first.
            for name in names:
                (self.path / name).unlink(missing_ok=True)
            for name, values in stored.items():
                self._write_shards(name, values, row_start=unit.row_start)
            digests = sync_objects(self.path, names)
            commit = {
                "unit": unit.index,
                "row_start": unit.row_start,
                "rows": unit.rows,
                "capacity": unit.capacity,
                "carriers": len(unit.carriers),
                "candidates": _widest(arrays),
                "notes": notes or {},
                "objects": digests_to_json(digests),
            }
            write_group(self.path, unit_name(unit.index), sealed_document(commit))
        except OSError as error:
            self._drop(unit, names)
            raise refused(self.path, error) from error
        self.committed.add(unit.index)
        self.log.append(
            "committed",
            unit=unit.index,
            positions=unit.rows,
            write_seconds=round(time.monotonic() - started, 3),
        )

    def _write_shards(self, name: str, values: np.ndarray, *, row_start: int) -> None:
        """Write one object at a time.

        Of several at once Zarr raises the first fault while the others are still being written,
        so that one of them could come to stand after `_drop`.
        """
        array, rows = self._array(name), self.plan.layout.shard_rows
        for first in range(0, len(values), rows):
            array[row_start + first : row_start + first + rows] = values[first : first + rows]

    def _drop(self, unit: Unit, names: Sequence[str]) -> None:
        """Give back the room of a unit that the disk refused, unless its commit is in place."""
        commit = self.path / unit_name(unit.index)
        if not (commit / METADATA).exists():
            shutil.rmtree(commit, ignore_errors=True)
            for name in names:
                (self.path / name).unlink(missing_ok=True)

    def _array(self, name: str) -> zarr.Array[Any]:
        """An array of the run, opened once."""
        if name not in self._arrays:
            # What is all fill must be there too: readers take an absent object for a fault.
            # (Zarr keeps that setting nowhere, and `open_array` does not take it.)
            array = zarr.open_array(LocalStore(self.path), path=name, mode="r+")
            array = array.with_config({"write_empty_chunks": True})
            self._arrays[name] = array
        return self._arrays[name]

    def _check_unit(self, unit: Unit, arrays: UnitArrays) -> None:
        if unit not in self.plan.units:
            raise ValueError(f"a unit must be one of the plan, got {unit}")
        if unit.index in self.committed:
            raise ValueError(f"unit {unit.index} is committed and cannot be written again")
        expected = np.repeat(unit.carriers, unit.carrier_rows)
        if not np.array_equal(arrays.carrier, expected):
            raise ValueError(
                f"unit {unit.index} must hold the plan's carriers in the plan's order "
                f"({unit.rows} rows), got {len(arrays.carrier)} rows of carriers "
                f"{sorted(set(arrays.carrier.tolist()))[:10]}"
            )

    def finish(self, summary: dict[str, Any] | None = None) -> None:
        """Write the default statistics and close the run for good; again it does nothing.

        Args:
            summary: JSON values known only now; no wall-clock facts.

        Raises:
            ValueError: a unit is not committed.
            UnwritablePath: the disk refuses.
        """
        if self.complete:
            return
        left = sorted({unit.index for unit in self.plan.units} - self.committed)
        if left:
            raise ValueError(
                f"finish needs every unit committed, got {len(left)} missing: {left[:10]}"
            )
        started = time.monotonic()
        try:
            shutil.rmtree(self.path / STATISTICS, ignore_errors=True)
            run = open_run(str(self.path), kept_bytes=STATISTICS_KEPT_BYTES)
            asked = write_statistics(_open_group(self.path), run)
            names = [f"{STATISTICS}/{name}" for name in objects_under(self.path / STATISTICS)]
            commits = {
                unit_name(index): digest_of((self.path / unit_name(index) / METADATA).read_bytes())
                for index in sorted(self.committed)
            }
            seal = {
                **asked,
                "commits": digests_to_json(commits),
                "objects": digests_to_json(sync_objects(self.path, names)),
                "rows": self.plan.rows,
                "summary": summary or {},
            }
            write_group(self.path, FINISH_SEAL, sealed_document(seal))
        except OSError as error:
            if not (self.path / FINISH_SEAL / METADATA).exists():
                for name in (STATISTICS, FINISH_SEAL):
                    shutil.rmtree(self.path / name, ignore_errors=True)
            raise refused(self.path, error) from error
        self.complete = True
        self.log.append("finished", write_seconds=round(time.monotonic() - started, 3))


def _widest(arrays: UnitArrays) -> int:
    """Candidates of the position that has most."""
    return int((arrays.candidate_id != PADDING_ID).sum(axis=1).max())


def lock_run(run: Path) -> RunLock:
    """The right to write the run that is, or will be, at this place.

    Raises:
        RunBusy: another process has it.
        UnwritablePath: the place cannot be written.
    """
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        return RunLock.acquire(run)
    except OSError as error:
        raise refused(run, error) from error


def _refuse_existing(run: Path) -> None:
    if run.exists():
        raise UnwritablePath(
            f"{run} exists already; a new run needs a place of its own; "
            "choose another --out, or delete it"
        )


def _refuse_differences(run: Path, opened: Run, *, plan: Plan, manifest: Manifest) -> None:
    found = changes(opened.manifest, manifest)
    found += differences(opened.plan.to_json(), plan.to_json(), where="plan")
    refuse(run, opened, found)


def refuse(run: Path, opened: Run, found: Sequence[str]) -> None:
    """Say what differs between a stored run and the one asked for, if anything does.

    Raises:
        RunDiffers: something does.
    """
    if not found:
        return
    state = "is complete and was made from" if opened.complete else "was begun with"
    listed = "\n  ".join(found)
    raise RunDiffers(
        f"{run} {state} other inputs, models or settings, so it cannot go on:\n  {listed}\n"
        "restore them, give a new --out, or delete it"
    )


def _open_group(run: Path) -> zarr.Group:
    return zarr.open_group(LocalStore(run), mode="r+", zarr_format=3, use_consolidated=False)


def _build(run: Path, *, plan: Plan, manifest: Manifest, texts: Texts) -> None:
    """Build an empty run beside its place, make it durable, rename it."""
    partial = run.with_name(run.name + PARTIAL_SUFFIX)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _lay_out(partial, plan=plan, manifest=manifest, texts=texts)
        sync_objects(partial, [f"{LAYOUT_SEAL}/{METADATA}"])
        partial.rename(run)
        sync(run.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise refused(run, error) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _lay_out(run: Path, *, plan: Plan, manifest: Manifest, texts: Texts) -> None:
    root = zarr.create_group(LocalStore(run), zarr_format=3)
    sizes = axis_sizes(manifest, plan)
    for name, spec in POSITION_ARRAYS.items():
        grid = position_grid(spec, sizes=sizes, layout=plan.layout)
        step = TAIL_RESOLUTION.get(name)
        attributes = {} if step is None else {"resolution": step, "error_bound": step / 2}
        create_array(root, name, grid=grid, content=Content(spec.dtype, spec.fill, attributes))
    write_flat(root.create_group(CARRIERS), carrier_arrays(texts.carriers, texts.encoded))
    write_flat(root.create_group(VOCABULARY), vocabulary_arrays(texts.vocabulary_bytes))
    write_group(run, COMMITS, group_document({}))
    write_group(run, MANIFEST, group_document(manifest.to_json()))
    write_group(run, PLAN, group_document(plan.to_json()))
    write_group(run, "", group_document({"format": FORMAT, "schema_version": SCHEMA_VERSION}))
    digests = sync_objects(run, objects_under(run))
    write_group(run, LAYOUT_SEAL, sealed_document({"objects": digests_to_json(digests)}))
