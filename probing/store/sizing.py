"""What a run takes on the disk, from a small one of the same models and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from probing.carriers.record import Carrier
from probing.store.arrays import Content, create_array, write_flat
from probing.store.manifest import Manifest
from probing.store.objects import group_document, objects_under
from probing.store.plan import Plan
from probing.store.reader import open_run
from probing.store.schema import (
    CARRIERS,
    POSITION_ARRAYS,
    STATISTICS,
    axis_sizes,
    position_grid,
    unit_name,
)
from probing.store.texts import carrier_arrays
from probing.tokens.encoded import EncodedCarrier


@dataclass(frozen=True)
class RunSize:
    """Bytes of a run, by what they grow with.

    Attributes:
        position: of one position, its default statistics included.
        shard: of one shard of every array with no position in it, and of its commit.
        texts: of the carriers' texts.
        rest: of all else: vocabulary, manifest, plan, metadata.
        positions, shards: how many there are.
    """

    position: float
    shard: float
    texts: int
    rest: int
    positions: int
    shards: int

    @property
    def total(self) -> int:
        """All of it."""
        return round(
            self.position * self.positions + self.shard * self.shards + self.texts + self.rest
        )


def expected_size(
    trial: Path, *, plan: Plan, carriers: Sequence[Carrier], encoded: Sequence[EncodedCarrier]
) -> RunSize:
    """What a run with this plan and these carriers will take.

    Positions are taken to compress as those of the trial do; texts are compressed to see.

    Args:
        trial: a finished run of at least one position, with the same models and settings.
        plan: of the run that is asked about.
        carriers: of that run.
        encoded: the same as tokens.
    """
    run = open_run(str(trial))
    rows, shards = run.plan.rows, run.plan.capacity // run.plan.layout.shard_rows
    commits = tuple(f"{unit_name(unit.index)}/" for unit in run.plan.units)
    in_arrays = statistics = in_commits = in_texts = rest = 0
    for name in objects_under(trial):
        size = (trial / name).stat().st_size
        if name.startswith(commits):
            in_commits += size
        elif name.startswith(f"{CARRIERS}/") and "/c/" in name:
            in_texts += size
        elif name.startswith(f"{STATISTICS}/") and "/c/" in name:
            statistics += size
        elif name.split("/")[0] in POSITION_ARRAYS and "/c/" in name:
            in_arrays += size
        else:
            rest += size
    empty = empty_shard_bytes(run.manifest, run.plan)
    documents = [len(group_document(one.to_json())) for one in (plan, run.plan)]
    return RunSize(
        position=(max(in_arrays - empty * shards, 0) + statistics) / rows,
        shard=empty + in_commits / shards,
        texts=_texts_bytes(carriers, encoded),
        rest=rest + documents[0] - documents[1],
        positions=plan.rows,
        shards=plan.capacity // plan.layout.shard_rows,
    )


def empty_shard_bytes(manifest: Manifest, plan: Plan) -> int:
    """Of one shard of every array, all of it spare."""
    kept: dict[str, Buffer] = {}
    root = zarr.create_group(MemoryStore(kept), zarr_format=3)
    sizes = axis_sizes(manifest, plan) | {"position": plan.layout.shard_rows}
    for name, spec in POSITION_ARRAYS.items():
        grid = position_grid(spec, sizes=sizes, layout=plan.layout)
        array = create_array(root, name, grid=grid, content=Content(spec.dtype, spec.fill, {}))
        array[:] = spec.fill
    return _pieces_bytes(kept)


def _texts_bytes(carriers: Sequence[Carrier], encoded: Sequence[EncodedCarrier]) -> int:
    kept: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(kept), zarr_format=3)
    write_flat(group, carrier_arrays(carriers, encoded))
    return _pieces_bytes(kept)


def _pieces_bytes(kept: Mapping[str, Buffer]) -> int:
    """Of the arrays' own objects, without their metadata."""
    return sum(len(content) for name, content in kept.items() if "/c/" in name)
