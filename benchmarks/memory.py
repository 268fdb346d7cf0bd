"""What scoring takes beside the loaded models, by the length and the number of carriers.

Two full checkpoints of SmolLM2-135M are loaded, and a small run is scored first, so that compiled
code is there. Then one carrier of each length is scored, and ten; a fifth of its response tokens is
chosen. Printed are the peak above what was resident before, and what it may be: a fixed working
set, the key-value cache of the longest carrier, and float32 copies of the heads (both computed from
the configuration, as for `probing score`).

    python -m benchmarks.memory [--dtypes bfloat16,float32] [--lengths 1024,4096,8192] [--json F]

Every dtype and length is a process of its own, so none inherits what another one freed.
"""

import json
import subprocess
import sys
from typing import Any

import torch

from benchmarks import common
from benchmarks.scoring import Case, scratch
from probing.scoring.checkpoints import resolve_model
from probing.scoring.memory import WORKING_BYTES, give_back, needs
from probing.scoring.models import Source
from probing.settings import ModelSpec, Scoring

SHARE = 0.2
TIMES = (1, 10)
WARM_UP = 4
MB = 1e6


def allowed_mb(dtype: torch.dtype, *, longest: int) -> dict[str, float]:
    """What the two models' heads and cache may take, in MB, as the run itself computes it."""
    folder = str(common.baseline_folder())
    sources = tuple(
        Source(
            spec=ModelSpec(name=name, path=folder),
            files=resolve_model(name, folder, revision=None, trust_remote_code=False),
        )
        for name in ("baseline", "ssd")
    )
    found = needs(sources, dtype=dtype, longest=longest, scoring=Scoring())
    heads, cache = sum(need.head for need in found), max(need.cache for need in found)
    return {
        "working_mb": WORKING_BYTES / MB,
        "heads_mb": heads / MB,
        "cache_mb": cache / MB,
        "allowed_mb": (WORKING_BYTES + heads + cache) / MB,
    }


def measure(dtype: str, length: int) -> list[dict[str, Any]]:
    """One row for each number of carriers, in this process."""
    models = common.full_models(getattr(torch, dtype))
    _peak_mb(Case(models, common.demo_carriers(WARM_UP), SHARE))
    rows = []
    for times in TIMES:
        case = Case(models, common.long_carriers([length] * times), SHARE)
        rows.append(
            {
                "dtype": dtype,
                "length": length,
                "carriers": times,
                "positions": case.positions,
                "extra_rss_mb": round(_peak_mb(case)),
                **{
                    name: round(value)
                    for name, value in allowed_mb(getattr(torch, dtype), longest=length).items()
                },
            }
        )
    return rows


def _peak_mb(case: Case) -> float:
    """The peak of one run above what was resident before it."""
    with scratch() as folder:
        give_back()
        common.forget_peak()
        before = common.resident_mb()
        case.ours(folder)
        return common.resident_mb("VmHWM") - before


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--lengths", default="1024,4096,8192")
    parser.add_argument(
        "--one", nargs=2, metavar=("DTYPE", "LENGTH"), help="print its rows as JSON"
    )
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one[0], int(asked.one[1]))))
        return
    print(common.machine(), flush=True)
    rows: list[dict[str, Any]] = []
    for dtype in asked.dtypes.split(","):
        for length in asked.lengths.split(","):
            command = [sys.executable, "-m", "benchmarks.memory", "--one", dtype, length]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            for row in json.loads(said.splitlines()[-1]):
                rows.append(row)
                print(
                    f"{row['dtype']:9} {row['carriers']:3} x {row['length']:5} tokens, "
                    f"{row['positions']:6} positions: {row['extra_rss_mb']:4} MB extra, "
                    f"{row['allowed_mb']:4} allowed ({row['working_mb']} working, "
                    f"{row['heads_mb']} heads, {row['cache_mb']} cache)",
                    flush=True,
                )
    common.write_json(asked.json, rows)


if __name__ == "__main__":
    main()
