"""Shards read whole hold what Zarr reads of them, chunk by chunk, and damage is seen."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from pages_run import write_pages_run

from probing.errors import CorruptRun
from probing.store.schema import PAD_CANDIDATES, POSITION_ARRAYS
from probing.store.shards import Shards, shard_form

SHARD_ROWS = 256


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of several shards; the last of each unit has spare rows."""
    path = tmp_path_factory.mktemp("shards") / "run.zarr"
    write_pages_run(path, shard_rows=SHARD_ROWS)
    return path


def shards_of(path: Path, name: str) -> tuple[Shards, zarr.Array]:
    array = zarr.open_array(path / name, mode="r")
    form = shard_form(array)
    assert form is not None
    return Shards(name, form, lambda key: (path / key).read_bytes()), array


@pytest.mark.parametrize("name", POSITION_ARRAYS)
def test_rows_are_those_that_zarr_reads(stored: Path, name: str) -> None:
    shards, array = shards_of(stored, name)
    rng = np.random.default_rng(0)
    every = np.arange(array.shape[0])
    assert array.shape[0] > 3 * SHARD_ROWS
    for rows in (
        every,
        every[5:9],
        every[SHARD_ROWS - 2 : 2 * SHARD_ROWS + 2],
        every[rng.random(len(every)) < 0.3],
        rng.permutation(every)[:90],
        np.array([7, 7, 3]),
    ):
        np.testing.assert_array_equal(shards.rows(rows, width=None), array[:][rows])
        if name in PAD_CANDIDATES:
            for width in (1, 7, array.shape[-1]):
                found = shards.rows(rows, width=width)
                np.testing.assert_array_equal(found, array[..., :width][rows])


def test_few_rows_of_many_chunks_are_left_to_zarr(stored: Path) -> None:
    shards, array = shards_of(stored, "logit")
    assert array.chunks[0] < SHARD_ROWS
    assert shards.fill(np.arange(SHARD_ROWS))
    assert not shards.fill(np.array([3]))
    whole, tail = shards_of(stored, "tail_mean")
    assert tail.chunks[0] == SHARD_ROWS
    assert whole.fill(np.array([3]))


def test_other_forms_are_left_to_zarr(tmp_path: Path) -> None:
    plain = zarr.create_array(tmp_path / "plain.zarr", shape=(8, 4), chunks=(4, 4), dtype="f4")
    assert shard_form(plain) is None
    other = zarr.create_array(
        tmp_path / "other.zarr", shape=(8, 4), chunks=(2, 4), shards=(4, 4), dtype="f4"
    )
    assert shard_form(other) is None


@pytest.mark.parametrize("place", [20, -1, -10])
def test_a_changed_byte_is_seen(stored: Path, tmp_path: Path, place: int) -> None:
    path = tmp_path / "damaged.zarr"
    shutil.copytree(stored, path)
    for name in ("logit", "tail_mean", "carrier"):
        shards, array = shards_of(path, name)
        first = "/".join(["0"] * array.ndim)
        file = path / name / "c" / first
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        for broken in (bytes(content), bytes(content[:30]), b""):
            file.write_bytes(broken)
            with pytest.raises(CorruptRun, match=f"{name}/c/{first}: it does not decode"):
                shards.rows(np.arange(SHARD_ROWS), width=None)
