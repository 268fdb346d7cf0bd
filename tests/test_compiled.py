"""The compiled pass gives the same bits where it is compiled and where it is only loaded."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import hashlib
import numpy as np
from probing.scoring.fused import fused
from probing.scoring.reduced import RowSettings
from probing.store.unit import measures

rng = np.random.default_rng(0)
base = rng.normal(scale=4.0, size=(16, 20_000))
block = [(base + 0.3 * rng.normal(size=base.shape)).astype(np.float32) for _ in range(2)]
settings = RowSettings(
    top_k=64,
    watched=np.arange(5),
    temperatures=(1.0, 1.5),
    betas=np.geomspace(0.5, 4.0, 16),
    measures=measures(("base", "ssd")),
)
made = fused(block, rng.integers(0, 20_000, size=16), settings)
for name, values in made._asdict().items():
    print(name, hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest())
"""


def digests(cache: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()


def test_compiling_and_loading_give_the_same_bits(tmp_path: Path) -> None:
    compiling, loading = digests(tmp_path), digests(tmp_path)
    assert len(compiling) == 13
    assert list(tmp_path.rglob("*.nbc")), "the second process must have found what the first made"
    assert loading == compiling
