"""Statistics under the default decoding, stored with a finished run so that it opens fast."""

import dataclasses
from typing import Any

import numpy as np
import zarr

from probing.analysis.decoding import Statistics
from probing.analysis.side_by_side import side_by_side
from probing.settings import Decoding, KindRule, as_json
from probing.store.arrays import Content, create_array
from probing.store.reader import Rows, Run
from probing.store.schema import STATISTICS, Grid
from probing.store.texts import cut

STATISTICS_KEPT_BYTES = 64 << 20
"""For the arrays of as many blocks: what finishing takes must not grow with the run."""


def write_statistics(group: zarr.Group, run: Run) -> dict[str, Any]:
    """Compute and write the default statistics of every measure of a run with all units committed.

    Arrays have the axes (position, measure), one per field of `Statistics`, in the group
    `statistics`; spare rows hold 0.

    Returns:
        Under which decoding and rule they hold, as they stand in the run's last commit.
    """
    decoding, rule = Decoding(), KindRule()

    def compute(rows: Rows) -> list[Statistics]:
        return [
            run.computed_statistics(name, decoding=decoding, rule=rule, rows=rows)
            for name in run.measures.names
        ]

    # Blocks, not measures, side by side: those of one block read the same arrays.
    parts = side_by_side(compute, run.row_blocks())
    target = group.create_group(STATISTICS)
    rows = run.storage_rows
    shard, chunk = cut(run.plan.capacity)
    for field in dataclasses.fields(Statistics):
        values = np.concatenate(
            [np.stack([getattr(one, field.name) for one in part], axis=1) for part in parts]
        )
        shape = (run.plan.capacity, values.shape[1])
        whole = np.zeros(shape, dtype=values.dtype)
        whole[rows] = values
        grid = Grid(shape, (shard, shape[1]), (chunk, shape[1]), ("position", "measure"))
        array = create_array(
            target, field.name, grid=grid, content=Content(str(values.dtype), 0, {})
        )
        array[:] = whole
    return {"decoding": as_json(decoding), "rule": as_json(rule)}
