"""One carrier scored in a temporary folder, with a clock beside it."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from probing.errors import ModelFault
from probing.scoring.batching import Wanted
from probing.scoring.forward import HiddenRows, LogitRows, Runner, TwoPass
from probing.scoring.memory import MemoryPlan
from probing.scoring.models import load_group
from probing.scoring.ready import Ready, make_ready
from probing.scoring.run import Begun, Watched, scorer_of
from probing.scoring.running_out import TOO_LARGE, within_memory
from probing.scoring.units import Resident, Scorer, Work
from probing.settings import Scoring
from probing.store.writer import RunWriter, Texts


@dataclass(frozen=True)
class Rate:
    """Seconds for one of something: in as much company as a run gives it, and alone."""

    together: float
    alone: float

    @property
    def low(self) -> float:
        """A clock is not exact: the smaller of both."""
        return min(self.together, self.alone)

    @property
    def high(self) -> float:
        """The larger of both."""
        return max(self.together, self.alone)


@dataclass(frozen=True)
class Trial:
    """What one carrier took.

    Attributes:
        carrier_id: of the carrier of median length.
        tokens: of it that each model read, up to its last chosen position.
        positions: chosen in it.
        copies: of it that shared a batch when it was run again; 1 where it was not.
        forward: per token, all models one after the other.
        rows: per position, to make every model's logits and reduce them.
        start: seconds until the models were loaded and checked.
        write: seconds to write one unit.
        finish: seconds to write the default statistics.
        hidden_bytes: that a position takes while a run under `sequential` is made; else 0.
    """

    carrier_id: str
    tokens: int
    positions: int
    copies: int
    forward: Rate
    rows: Rate
    start: float
    write: float
    finish: float
    hidden_bytes: int

    @property
    def seconds(self) -> float:
        """That the rates were measured over."""
        tokens, positions = self.tokens, self.positions
        return (
            self.forward.alone * tokens
            + self.forward.together * tokens * self.copies
            + self.rows.alone * positions
            + self.rows.together * positions * self.copies
        )


def run_trial(
    begun: Begun, work: Work, *, memory: MemoryPlan, out: Path, watcher: Watched
) -> Trial:
    """Score one carrier as its run would, and store it.

    Args:
        begun: the run.
        work: the carrier.
        memory: how the models of the run are held.
        out: where the trial is stored.
        watcher: is told of every step.
    """
    total = sum(each.wanted.length for each in begun.identity.prepared.works)
    one = _only(begun, work, out=out, mode=memory.mode)
    started = time.monotonic()
    ready = make_ready(
        one.identity,
        one.sources,
        tokenizer=one.tokenizer,
        lexicon=one.lexicon,
        stored=None,
        watcher=watcher,
    )
    start = time.monotonic() - started
    watcher.note(f"Scoring one carrier, {work.encoded.carrier_id}, in a temporary folder")
    alone = ready.models.rows(0, [work.wanted], scoring=begun.identity.settings.scoring)
    copies = _copies(work.wanted, alone, scoring=begun.identity.settings.scoring, total=total)
    forward = _forward(one, ready, memory=memory, copies=copies, watcher=watcher)
    scorer, works = scorer_of(ready, pause=watcher.pause), one.identity.prepared.works
    rows = _reduction(scorer, works, alone, scoring=one.identity.settings.scoring, copies=copies)
    write, finish = _store(one, ready, scorer, out=out)
    hidden = sum(
        each.hidden.shape[1] * each.hidden.element_size()
        for each in alone
        if isinstance(each, HiddenRows) and not isinstance(ready.models, Resident)
    )
    return Trial(
        carrier_id=work.encoded.carrier_id,
        tokens=work.wanted.length,
        positions=len(work.selected.position),
        copies=copies,
        forward=forward,
        rows=rows,
        start=start,
        write=write,
        finish=finish,
        hidden_bytes=hidden,
    )


def _only(begun: Begun, work: Work, *, out: Path, mode: str) -> Begun:
    """A run of this carrier alone, with its models held as the whole run's are."""
    identity = begun.identity
    settings, prepared = identity.settings, identity.prepared
    held: dict[str, Any] = {"memory_mode": mode}
    return replace(
        begun,
        identity=replace(
            identity,
            settings=replace(settings, out=str(out), scoring=replace(settings.scoring, **held)),
            prepared=replace(
                prepared,
                carriers=(prepared.carriers[work.index],),
                encoded=(work.encoded,),
                works=(replace(work, index=0),),
            ),
        ),
    )


def _copies(wanted: Wanted, rows: Sequence[LogitRows], *, scoring: Scoring, total: int) -> int:
    """How many carriers of this length share a batch; 1 where carriers run alone."""
    whole = not all(isinstance(each, HiddenRows) for each in rows)
    if whole or wanted.length > scoring.chunk_tokens:
        return 1
    return max(1, min(scoring.token_budget, total) // wanted.length)


def _forward(
    one: Begun, ready: Ready, *, memory: MemoryPlan, copies: int, watcher: Watched
) -> Rate:
    """Seconds of all models for a token; those that are gone from memory are loaded again."""
    work, scoring = one.identity.prepared.works[0], one.identity.settings.scoring
    if isinstance(ready.models, Resident):
        rates = [_runner_rate(r, work.wanted, scoring, copies) for r in ready.models.runners]
    else:
        rates = []
        for members, device in zip(memory.groups, memory.devices, strict=True):
            watcher.pause()
            rates += _group_rates(one, members, device, copies=copies, dtype=_dtype(ready))
            gc.collect()
            torch.cuda.empty_cache()
    return Rate(sum(rate.together for rate in rates), sum(rate.alone for rate in rates))


def _group_rates(
    one: Begun, members: Sequence[int], device: torch.device, *, copies: int, dtype: torch.dtype
) -> list[Rate]:
    work, scoring = one.identity.prepared.works[0], one.identity.settings.scoring
    models = load_group(
        [one.sources[member] for member in members], scoring=scoring, dtype=dtype, device=device
    )
    return [_runner_rate(TwoPass(model), work.wanted, scoring, copies) for model in models]


def _dtype(ready: Ready) -> torch.dtype:
    found: torch.dtype = getattr(torch, ready.plan.execution["dtype"])
    return found


def _runner_rate(runner: Runner, wanted: Wanted, scoring: Scoring, copies: int) -> Rate:
    def measured(budget: Scoring) -> Rate:
        runner.rows([wanted], scoring=budget)  # What is compiled at the first call is not counted.
        started = time.monotonic()
        runner.rows([wanted], scoring=budget)
        alone = (time.monotonic() - started) / wanted.length
        if copies == 1:
            return Rate(alone, alone)
        started = time.monotonic()
        runner.rows([wanted] * copies, scoring=budget)
        return Rate((time.monotonic() - started) / (wanted.length * copies), alone)

    fitted = within_memory(measured, scoring=scoring)
    if fitted is None:
        raise ModelFault(f"one carrier {TOO_LARGE}")
    return fitted.result


@dataclass(frozen=True)
class _Held:
    """Rows that are there already; see `UnitRows`."""

    found: Sequence[LogitRows]

    def rows(
        self, unit: int, carriers: Sequence[Wanted], *, scoring: Scoring
    ) -> Sequence[LogitRows]:
        """See `UnitRows`."""
        del unit, carriers, scoring
        return self.found

    def notes(self, unit: int) -> dict[str, Any]:
        """See `UnitRows`."""
        del unit
        return {}


def _reduction(
    scorer: Scorer,
    works: Sequence[Work],
    alone: Sequence[LogitRows],
    *,
    scoring: Scoring,
    copies: int,
) -> Rate:
    """Seconds for a position, from hidden rows to what is stored."""
    positions = len(works[0].selected.position)
    held = replace(scorer, models=_Held(alone))
    held.unit(0, works, scoring=scoring)  # What is compiled at the first call is not counted.
    started = time.monotonic()
    held.unit(0, works, scoring=scoring)
    single = (time.monotonic() - started) / positions
    if copies == 1:
        return Rate(single, single)
    more = [rows.repeated(copies) for rows in alone if isinstance(rows, HiddenRows)]
    held = replace(scorer, models=_Held(more))
    started = time.monotonic()
    held.unit(0, list(works) * copies, scoring=scoring)
    return Rate((time.monotonic() - started) / (positions * copies), single)


def _store(one: Begun, ready: Ready, scorer: Scorer, *, out: Path) -> tuple[float, float]:
    """Write the trial as a run; seconds for its unit and for its statistics."""
    identity = one.identity
    arrays = scorer.unit(0, identity.prepared.works, scoring=identity.settings.scoring)
    texts = Texts(
        identity.prepared.carriers,
        identity.prepared.encoded,
        one.tokenizer.vocabulary_bytes(ready.manifest.vocabulary_size),
    )
    with RunWriter.create(out, plan=ready.plan, manifest=ready.manifest, texts=texts) as writer:
        started = time.monotonic()
        writer.write_unit(ready.plan.units[0], arrays)
        written = time.monotonic()
        writer.finish()
    return written - started, time.monotonic() - written
