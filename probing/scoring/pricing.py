"""What a run will take, from its carriers and a trial on one of them; nothing of it is kept."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from probing.carriers.record import Skipped
from probing.carriers.sampling import Cell
from probing.scoring.memory import MemoryPlan, Need, needs, plan_memory
from probing.scoring.models import resolve_dtype
from probing.scoring.noise import noise_sample
from probing.scoring.ready import plan_work
from probing.scoring.run import Begun, Progress, Watched, begin, check_place, check_settings
from probing.scoring.stopping import stoppable
from probing.scoring.trial import Trial, run_trial
from probing.scoring.units import Work
from probing.settings import RunSettings
from probing.store.plan import Plan
from probing.store.sizing import RunSize, expected_size

SHORT_TRIAL = 1.0
"""Seconds: a trial under this says little, and is said to."""


@dataclass(frozen=True)
class Seconds:
    """What a run takes: at least, and at most.

    At least: every carrier in batches as full as the budget allows, units written while the next is
    scored. At most: every carrier alone, and nothing side by side.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Weights:
    """What the models that share one set of weights need, and where they would be."""

    models: tuple[str, ...]
    device: str
    need: Need


@dataclass(frozen=True)
class Price:
    """What a run will take.

    Attributes:
        out: where it would go.
        exists: whether something stands there.
        counts, skipped, cells: as in the report of a run.
        prompt_tokens, response_tokens: of the run's carriers.
        read_tokens: that each model reads: up to the last chosen position of every carrier.
        units: of the plan.
        memory: which models are held at once.
        weights: what each set of weights needs.
        trial: what one carrier took.
        seconds: of the whole.
        size: on the disk.
        hidden_bytes: beside the run while it is made, under `sequential`; else 0.
    """

    out: str
    exists: bool
    counts: dict[str, int]
    skipped: tuple[Skipped, ...]
    cells: tuple[Cell, ...]
    prompt_tokens: int
    response_tokens: int
    read_tokens: int
    units: int
    memory: MemoryPlan
    weights: tuple[Weights, ...]
    trial: Trial
    seconds: Seconds
    size: RunSize
    hidden_bytes: int


def price(settings: RunSettings, *, progress: Progress) -> Price:
    """Read the carriers, load the models, score one carrier in a temporary folder, and reckon.

    Nothing is written to the run's place, and what stands there is not read.

    Raises:
        ProbingError: as `run.score` would before its first unit.
    """
    check_settings(settings)
    check_place(Path(settings.out))
    with stoppable() as stop, tempfile.TemporaryDirectory(prefix="probing-") as folder:
        return _price(settings, trial=Path(folder) / "trial.zarr", watcher=Watched(progress, stop))


def _price(settings: RunSettings, *, trial: Path, watcher: Watched) -> Price:
    started = time.monotonic()
    begun = begin(settings, watcher=watcher)
    prepared = begun.identity.prepared
    plan = plan_work(prepared, layout=settings.store)
    by_length = sorted(prepared.works, key=lambda work: (work.wanted.length, work.index))
    dtype = resolve_dtype(begun.sources, dtype=settings.scoring.dtype)
    longest = by_length[-1].wanted.length
    found = needs(begun.sources, dtype=dtype, longest=longest, scoring=settings.scoring)
    memory = plan_memory(found, scoring=settings.scoring)
    before_models = time.monotonic() - started
    median = by_length[len(by_length) // 2]
    took = run_trial(begun, median, memory=memory, out=trial, watcher=watcher)
    read = sum(work.wanted.length for work in by_length)
    return Price(
        out=settings.out,
        exists=os.path.lexists(settings.out),
        counts=prepared.counts,
        skipped=prepared.skipped,
        cells=prepared.cells,
        prompt_tokens=sum(each.response_start for each in prepared.encoded),
        response_tokens=sum(len(each.char_spans) for each in prepared.encoded),
        read_tokens=read,
        units=len(plan.units),
        memory=memory,
        weights=_weights(begun, found, memory=memory),
        trial=took,
        seconds=_seconds(
            took,
            plan=plan,
            tokens=read + _checking_tokens(begun, by_length, dtype=dtype),
            before=before_models,
        ),
        size=expected_size(trial, plan=plan, carriers=prepared.carriers, encoded=prepared.encoded),
        hidden_bytes=took.hidden_bytes * plan.rows,
    )


def _weights(begun: Begun, found: Sequence[Need], *, memory: MemoryPlan) -> tuple[Weights, ...]:
    return tuple(
        Weights(
            tuple(begun.sources[member].spec.name for member in need.members), str(device), need
        )
        for need, device in zip(found, memory.devices, strict=True)
    )


def _checking_tokens(begun: Begun, by_length: Sequence[Work], *, dtype: torch.dtype) -> int:
    """Tokens read by all models that the noise floor and the comparison of dtypes amount to.

    The trial does both on its one carrier, which is counted in its start, and left out here.
    """
    scoring = begun.identity.settings.scoring
    wanted = [work.wanted for work in by_length]

    def tokens(count: int) -> int:
        return 2 * sum(carrier.length for carrier in noise_sample(wanted, count=count))

    # The floor is the baseline's alone.
    floor = tokens(scoring.noise_carriers) // len(begun.sources)
    return floor + (0 if dtype == torch.float32 else tokens(scoring.cast_carriers))


def _seconds(took: Trial, *, plan: Plan, tokens: int, before: float) -> Seconds:
    shards = plan.capacity // plan.layout.shard_rows
    start = before + took.start
    return Seconds(
        low=start
        + took.forward.low * tokens
        + took.rows.low * plan.rows
        + took.write
        + took.finish,
        high=start
        + took.forward.high * tokens
        + took.rows.high * plan.rows
        + (took.write + took.finish) * shards,
    )
