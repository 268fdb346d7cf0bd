"""How close scoring comes to the bare forward passes, and how far from a plain script.

In one process, one after the other and in turn, on the demo's responses and on long carriers, with
two full checkpoints of SmolLM2-135M:

  floor   the bare backbone of each model over the same padded batches (and chunks), no head
  ours    from carriers in memory to a committed and finished run: union of top 256, exact KL and
          JS at T = 1, tail grid, compression, digests, default statistics
  plain   what one would write: a carrier at a time, all logits, log-softmax, top 256, KL

    python -m benchmarks.scoring [--cases demo,long] [--dtypes bfloat16,float32] [--repeats 3]

Seconds are medians over the repeats. `extra_rss_mb` is ours' peak above what was resident before.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import common
from probing.lexicon import Lexicon
from probing.positions.seeding import carrier_rng
from probing.positions.select import select_positions, selector_names
from probing.scoring.batching import batches, padded_ids
from probing.scoring.forward import TwoPass
from probing.scoring.heads import backbone_of
from probing.scoring.memory import give_back
from probing.scoring.models import ScoredModel
from probing.scoring.ready import Ready
from probing.scoring.rows import row_path
from probing.scoring.run import score_units
from probing.scoring.running_out import budget_of
from probing.scoring.stopping import Stop
from probing.scoring.units import Resident, Work
from probing.settings import ModelSpec, RunSettings, Selection
from probing.store.manifest import Manifest
from probing.store.plan import Plan, make_plan
from probing.store.schema import POSITION_ARRAYS
from probing.store.writer import RunWriter, Texts
from probing.tokens.adapter import TokenizerAdapter
from probing.tokens.encoded import EncodedCarrier

SHARES = (0.05, 0.2, 1.0)
LONG = (2048, 4096, 8192)
TOP_K = 256


class Silent:
    """Progress that nobody watches."""

    def start(self, total_positions: int, *, stored: int) -> None:
        """Scoring begins."""

    def advance(self, positions: int) -> None:
        """So many more are stored."""

    def note(self, text: str) -> None:
        """Something happened."""


class Case:
    """Two models and carriers, with a share of the response tokens chosen."""

    def __init__(
        self, models: Sequence[ScoredModel], carriers: Sequence[EncodedCarrier], share: float
    ) -> None:
        self.models = models
        self.carriers = carriers
        self.settings = RunSettings(
            out="",
            carriers=("benchmark",),
            baseline=ModelSpec(name="baseline", path="benchmark"),
            others=(ModelSpec(name="ssd", path="benchmark"),),
            selection=Selection(
                interval_every=round(1 / share), random_count=0, all_positions=share == 1
            ),
        )
        self.lexicon = Lexicon.load(None)
        self.works = [self._work(index, each) for index, each in enumerate(carriers)]
        self.plan = self._plan()
        self.vocabulary_bytes = TokenizerAdapter.load(
            str(common.baseline_folder())
        ).vocabulary_bytes(models[0].vocabulary)

    def _work(self, index: int, encoded: EncodedCarrier) -> Work:
        selection = self.settings.selection
        rng = carrier_rng(selection.seed, encoded.carrier_id)
        selected = select_positions(encoded, selection=selection, lexicon=self.lexicon, rng=rng)
        return Work(index=index, encoded=encoded, selected=selected)

    def _plan(self) -> Plan:
        return make_plan(
            [work.wanted.length for work in self.works],
            [len(work.selected.position) for work in self.works],
            layout=self.settings.store,
            execution={
                **budget_of(self.settings.scoring),
                "row_path": row_path(torch.device("cpu")),
            },
        )

    @property
    def positions(self) -> int:
        """How many are scored."""
        return self.plan.rows

    def floor(self) -> None:
        """Every batch of every unit, each model, nothing kept."""
        scoring = self.settings.scoring
        for unit in self.plan.units:
            wanted = [self.works[index].wanted for index in unit.carriers]
            lengths = [each.length for each in wanted]
            for model in self.models:
                with model.active() as causal_lm:
                    backbone = backbone_of(causal_lm)
                    for batch in batches(
                        lengths,
                        token_budget=scoring.token_budget,
                        chunk_tokens=scoring.chunk_tokens,
                    ):
                        ids = padded_ids([wanted[index] for index in batch.members])
                        cache, step = None, scoring.chunk_tokens
                        for start in range(0, ids.shape[1], step):
                            cache = backbone(
                                input_ids=ids[:, start : start + step],
                                past_key_values=cache,
                                use_cache=batch.chunked,
                            ).past_key_values

    def ours(self, folder: Path) -> None:
        """A whole run."""
        manifest = Manifest(
            settings=self.settings,
            vocabulary_size=self.models[0].vocabulary,
            selector_names=selector_names(self.lexicon),
            watched_ids=tuple(range(20)),
        )
        ready = Ready(
            models=Resident(tuple(TwoPass(model) for model in self.models), lambda: None),
            plan=self.plan,
            manifest=manifest,
            changes=(),
            checks=(),
            noise=None,
            casting=None,
        )
        with RunWriter.create(
            folder,
            plan=self.plan,
            manifest=manifest,
            texts=Texts(
                [common.carrier_of(each) for each in self.carriers],
                self.carriers,
                self.vocabulary_bytes,
            ),
        ) as writer:
            score_units(ready, writer, self.works, stop=Stop(), progress=Silent())
            writer.finish()

    def plain(self) -> None:
        """A carrier at a time."""
        for work in self.works:
            ids = torch.from_numpy(work.encoded.token_ids.astype(np.int64))[None]
            rows = torch.from_numpy(work.wanted.rows)
            found = []
            for model in self.models:
                with model.active() as causal_lm:
                    logits = causal_lm(ids, use_cache=False).logits[0].float()
                    log_p = torch.log_softmax(logits, dim=-1)[rows]
                    found.append((log_p, log_p.topk(TOP_K, dim=-1)))
            (a, _), (b, _) = found
            for one, other in ((a, b), (b, a)):
                (one.exp() * (one - other)).sum(dim=-1)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one run."""
    folder = Path(tempfile.mkdtemp(prefix="probing-benchmark-", dir=common.CACHE))
    try:
        yield folder / "run.zarr"
    finally:
        shutil.rmtree(folder)


def seconds(work: Callable[[], None]) -> float:
    """Wall-clock time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(case: Case, *, repeats: int) -> dict[str, Any]:
    """One row of the table, apart from what the case is."""
    times: dict[str, list[float]] = {"floor_s": [], "ours_s": [], "plain_s": []}
    extra, size = 0.0, 0
    case.floor()  # Caches and allocators are warm for all three.
    for turn in range(repeats):
        for name in np.roll(list(times), turn):
            if name == "floor_s":
                times[name].append(seconds(case.floor))
            elif name == "plain_s":
                times[name].append(seconds(case.plain))
            else:
                with scratch() as folder:
                    give_back()
                    common.forget_peak()
                    before = common.resident_mb()
                    times[name].append(seconds(lambda folder=folder: case.ours(folder)))
                    extra = max(extra, common.resident_mb("VmHWM") - before)
                    size = array_bytes(folder)
    row: dict[str, Any] = {
        name: round(statistics.median(found), 3) for name, found in times.items()
    }
    row["bytes_per_position"] = round(size / case.positions)
    row["extra_rss_mb"] = round(extra)
    row["positions"] = case.positions
    return row


def array_bytes(run: Path) -> int:
    """Bytes of everything stored per position, spare rows included."""
    return sum(
        file.stat().st_size
        for name in POSITION_ARRAYS
        for file in (run / name).rglob("*")
        if file.is_file()
    )


def main() -> None:
    """Measure and print."""
    parser = common.parser(__doc__)
    parser.add_argument("--cases", default="demo,long")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--shares", default=",".join(str(share) for share in SHARES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--carriers", type=int, default=192, help="of the demo case")
    asked = parser.parse_args()
    print(common.machine())
    rows = []
    for dtype in asked.dtypes.split(","):
        models = common.full_models(getattr(torch, dtype))
        for name in asked.cases.split(","):
            found = (
                common.demo_carriers(asked.carriers)
                if name == "demo"
                else common.long_carriers(LONG)
            )
            for share in map(float, asked.shares.split(",")):
                row = {
                    "case": name,
                    "dtype": dtype,
                    "selected_share": share,
                    **measure(Case(models, found, share), repeats=asked.repeats),
                }
                rows.append(row)
                print(
                    f"{name:5} {dtype:9} {share:5.0%} {row['positions']:6} positions: "
                    f"floor {row['floor_s']:7.2f} s, ours {row['ours_s']:7.2f} s "
                    f"({row['ours_s'] / row['floor_s']:.2f} x floor), "
                    f"plain {row['plain_s']:7.2f} s ({row['plain_s'] / row['ours_s']:.2f} x ours), "
                    f"{row['bytes_per_position']} bytes, {row['extra_rss_mb']} MB extra",
                    flush=True,
                )
    common.write_json(asked.json, rows)


if __name__ == "__main__":
    main()
