"""Statistics under the default decoding, stored with a finished run so that it opens fast."""

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import zarr

from probing.analysis.decoding import Statistics
from probing.settings import Decoding, KindRule, as_json
from probing.store.arrays import Content, create_array
from probing.store.reader import Run
from probing.store.schema import STATISTICS, Grid
from probing.store.texts import cut


def write_statistics(group: zarr.Group, run: Run) -> dict[str, Any]:
    """Compute and write the default statistics of every measure of a run with all units committed.

    Arrays have the axes (position, measure), one per field of `Statistics`, in the group
    `statistics`; spare rows hold 0.

    Returns:
        Under which decoding and rule they hold, as they stand in the run's last commit.
    """
    decoding, rule = Decoding(), KindRule()
    compute = partial(run.computed_statistics, decoding=decoding, rule=rule)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        per_measure = list(pool.map(compute, run.measures.names))
    target = group.create_group(STATISTICS)
    rows = run.storage_rows
    shard, chunk = cut(run.plan.capacity)
    for field in dataclasses.fields(Statistics):
        values = _stack([getattr(one, field.name) for one in per_measure])
        shape = (run.plan.capacity, len(per_measure))
        whole = np.zeros(shape, dtype=values.dtype)
        whole[rows] = values
        grid = Grid(shape, (shard, shape[1]), (chunk, shape[1]), ("position", "measure"))
        array = create_array(
            target, field.name, grid=grid, content=Content(str(values.dtype), 0, {})
        )
        array[:] = whole
    return {"decoding": as_json(decoding), "rule": as_json(rule)}


def _stack(columns: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack(columns, axis=1)
