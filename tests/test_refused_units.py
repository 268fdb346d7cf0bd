"""A unit that the disk refuses leaves nothing behind, whenever its other shards come to stand."""

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest
from pages_run import write_pages_run
from zarr.storage import LocalStore

from probing.errors import UnwritablePath
from probing.store.reader import open_run
from probing.store.verify import verify


def test_no_shard_of_it_comes_to_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pages_run(tmp_path / "plan.zarr", problems=2, finish=False, shard_rows=4)
    plan = open_run(str(tmp_path / "plan.zarr")).plan
    unit = plan.units[1]
    first, *others = plan.shards(unit)
    assert others, "else no other shard is there to be late"
    original = LocalStore.set

    async def full(self: LocalStore, key: str, value: object) -> None:
        if key.startswith(f"logit/c/{first}/"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if any(key.startswith(f"logit/c/{shard}/") for shard in others):
            await asyncio.sleep(0.2)  # Whoever is not waited for comes after the unit was dropped.
        await original(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    path = tmp_path / "run.zarr"
    with pytest.raises(UnwritablePath, match="No space left"):
        write_pages_run(path, problems=2, finish=False, shard_rows=4)
    time.sleep(0.5)
    assert len(open_run(str(path)).committed) == 1
    assert verify(str(path)).unsealed == ()
