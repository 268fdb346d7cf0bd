"""What finishing a run computes, and stores with it so that it opens fast."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import zarr

from probing.analysis.decoding import Statistics
from probing.analysis.side_by_side import side_by_side
from probing.settings import Decoding, KindRule, as_json
from probing.store.arrays import Content, create_array
from probing.store.facts import (
    BlockFacts,
    block_gaps,
    block_overlap,
    facts_reader,
    joined_facts,
)
from probing.store.finished import OVERLAP, PAIR_GAPS, PAIR_SIGNS, copied
from probing.store.reader import Rows, Run
from probing.store.schema import COPIED, POSITION_ARRAYS, STATISTICS, Grid
from probing.store.texts import cut

STATISTICS_KEPT_BYTES = 64 << 20
"""For the arrays of as many blocks: what finishing takes must not grow with the run."""


def write_statistics(group: zarr.Group, run: Run) -> dict[str, Any]:
    """Compute and write what a page asks first of a run with all units committed.

    In the group `statistics`: one array per field of `Statistics`, axes (position, measure); facts,
    gaps and overlap of every pair (see `store.facts`); copies of the arrays of `COPIED`.

    Returns:
        Under which decoding and rule they hold, as they stand in the run's last commit.
    """
    decoding, rule = Decoding(), KindRule()
    others = run.model_names[1:]
    seen = facts_reader(run, temperature=decoding.temperature, rule=rule)

    def compute(rows: Rows) -> _Block:
        return _Block(
            [
                run.computed_statistics(name, decoding=decoding, rule=rule, rows=rows)
                for name in run.measures.names
            ],
            [seen(name, rows) for name in others],
            np.stack([block_gaps(run, name, rows) for name in others], axis=1),
            np.stack(
                [block_overlap(run, name, rows, decoding=decoding) for name in others], axis=1
            ),
        )

    # Blocks, not measures, side by side: those of one block read the same arrays.
    blocks = side_by_side(compute, run.row_blocks())
    target = group.create_group(STATISTICS)
    for field in dataclasses.fields(Statistics):
        values = np.concatenate(
            [
                np.stack([getattr(one, field.name) for one in block.statistics], axis=1)
                for block in blocks
            ]
        )
        _write(target, field.name, values, run, axes=("measure",))
    facts = [
        joined_facts(run, [block.facts[place] for block in blocks]).packed()
        for place in range(len(others))
    ]
    _write(target, PAIR_SIGNS, np.stack(facts, axis=1), run, axes=("pair",))
    gaps = np.concatenate([block.gaps for block in blocks])
    _write(target, PAIR_GAPS, gaps, run, axes=("pair", "side"))
    overlap = np.concatenate([block.overlap for block in blocks])
    _write(target, OVERLAP, overlap, run, axes=("pair",))
    for name in COPIED:
        _write(target, copied(name), run.array(name), run, axes=POSITION_ARRAYS[name].axes)
    return {"decoding": as_json(decoding), "rule": as_json(rule)}


class _Block(NamedTuple):
    """Of some rows: statistics by measure; facts by other model; gaps and overlap over pairs."""

    statistics: list[Statistics]
    facts: list[BlockFacts]
    gaps: np.ndarray
    overlap: np.ndarray


def _write(
    target: zarr.Group, name: str, values: np.ndarray, run: Run, *, axes: tuple[str, ...]
) -> None:
    """One array over all rows, in few shards; spare rows hold 0."""
    whole = np.zeros((run.plan.capacity, *values.shape[1:]), dtype=values.dtype)
    whole[run.storage_rows] = values
    shard, chunk = cut(run.plan.capacity)
    grid = Grid(
        whole.shape, (shard, *whole.shape[1:]), (chunk, *whole.shape[1:]), ("position", *axes)
    )
    array = create_array(target, name, grid=grid, content=Content(str(values.dtype), 0, {}))
    array[:] = whole
