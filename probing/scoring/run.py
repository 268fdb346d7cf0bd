"""The whole path from carriers to a run, unit by unit, resumable."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from probing.analysis.tail import tail_betas
from probing.carriers.record import Skipped
from probing.carriers.sampling import Cell
from probing.errors import ModelFault, StoppedEarly, UnwritablePath
from probing.lexicon import Lexicon
from probing.scoring.models import Source, find_sources
from probing.scoring.preparing import prepare
from probing.scoring.provenance import Identity, facts_of, identify, manifest_of
from probing.scoring.ready import Ready, make_ready
from probing.scoring.reduced import RowSettings
from probing.scoring.running_out import (
    TOO_LARGE,
    Fitted,
    budget_of,
    with_budget,
    within_memory,
)
from probing.scoring.selfcheck import SelfCheck
from probing.scoring.sequential import hidden_folder
from probing.scoring.stopping import Stop, stoppable
from probing.scoring.units import Scorer, Work
from probing.scoring.watching import load_tokenizer
from probing.scoring.weights import WeightChange
from probing.settings import GREEDY_BELOW, Decoding, RunSettings, Scoring, require
from probing.store.casting import Casting
from probing.store.lock import RunLock
from probing.store.log import RunLog
from probing.store.manifest import changes
from probing.store.noise import NoiseFloor
from probing.store.plan import Plan, Unit
from probing.store.reader import Run, open_run
from probing.store.unit import UnitArrays
from probing.store.writer import RunWriter, Texts, lock_run, refuse
from probing.tokens.adapter import TokenizerAdapter

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "out_of_memory"
"""The log's event of a unit that begins again with a smaller budget."""


@runtime_checkable
class Progress(Protocol):
    """What the scorer says while it works; the command line draws it."""

    def start(self, total_positions: int, *, stored: int) -> None:
        """Scoring begins: so many positions in all, and so many stored by an earlier call."""
        ...

    def advance(self, positions: int) -> None:
        """So many more are stored."""
        ...

    def note(self, text: str) -> None:
        """A step begins, or something worth knowing happened."""
        ...


@dataclass(frozen=True)
class ScoreReport:
    """What a run came to.

    Attributes:
        out: where the run is.
        models: their names, baseline first.
        counts: records and carriers by what became of them.
        skipped: the records left out, with reasons.
        cells: what the sample drew from each combination of strata.
        units: of the run.
        reused_units: units that an earlier call had stored.
        changes: of each other model's weights; empty for a run that was complete already.
        checks: of each model's two passes; empty for a run that was complete already.
        noise: the baseline's noise floor; None for a run that was complete already.
        casting: what the dtype does beside float32; None for a run that was complete already.
    """

    out: str
    models: tuple[str, ...]
    counts: dict[str, int]
    skipped: tuple[Skipped, ...]
    cells: tuple[Cell, ...]
    units: int
    reused_units: int
    changes: tuple[WeightChange, ...] = ()
    checks: tuple[SelfCheck, ...] = ()
    noise: NoiseFloor | None = None
    casting: Casting | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the figures must know of the models' arithmetic."""
        grids = [check.grid_warning for check in self.checks if check.grid]
        return (*grids, *(self.casting.warnings if self.casting is not None else ()))

    @property
    def was_complete(self) -> bool:
        """Nothing was left to do."""
        return self.units == self.reused_units and not self.checks


@dataclass(frozen=True)
class Watched:
    """Progress is told, and a signal stops."""

    progress: Progress
    stop: Stop

    def note(self, text: str) -> None:
        """Of a step that begins."""
        self.pause()
        self.progress.note(text)

    def pause(self) -> None:
        """Leave if asked to."""
        self.stop.check()


@dataclass(frozen=True)
class Begun:
    """What is known of a run before a model of it is loaded."""

    sources: tuple[Source, ...]
    tokenizer: TokenizerAdapter
    lexicon: Lexicon
    identity: Identity


def begin(settings: RunSettings, *, watcher: Watched) -> Begun:
    """Find the models, read and sample the carriers, choose positions, digest every input."""
    lexicon = Lexicon.load(settings.selection.lexicon)
    sources = find_sources(settings)
    watcher.note("Reading carriers and tokenising")
    tokenizer = load_tokenizer(sources, trust_remote_code=settings.scoring.trust_remote_code)
    prepared = prepare(settings, tokenizer=tokenizer, lexicon=lexicon)
    watcher.note("Fingerprinting weights")
    identity = identify(
        settings, sources=sources, tokenizer=tokenizer, lexicon=lexicon, prepared=prepared
    )
    return Begun(sources, tokenizer, lexicon, identity)


def score(settings: RunSettings, *, progress: Progress) -> ScoreReport:
    """Score every model at the chosen positions of the carriers, and store the run.

    A run that exists and was begun with the same inputs, models and settings goes on; a complete
    one is left as it is, without loading a model.

    Raises:
        UsageFault: A setting is out of its range.
        UnreadableInput, NoCarriersLeft: The carriers cannot be read, or none is left.
        ModelFault, VocabularyMismatch, IdenticalModel: The models do not fit each other.
        SelfCheckFailed, NonFiniteLogits: A model's logits cannot be trusted.
        UnwritablePath, RunBusy, RunDiffers, NotARun: The run cannot be begun or go on.
        StoppedEarly: A signal came; the same command goes on.
    """
    check_settings(settings)
    check_place(Path(settings.out))
    with stoppable() as stop:
        return _score(settings, progress=progress, stop=stop)


def _score(settings: RunSettings, *, progress: Progress, stop: Stop) -> ScoreReport:
    place, watcher = Path(settings.out), Watched(progress, stop)
    begun = begin(settings, watcher=watcher)
    identity = begun.identity
    existing = _same_run(place, identity)
    if existing is not None and existing.complete:
        watcher.note(f"{place} is complete; nothing to score")
        return _report(identity, plan=existing.plan, reused=len(existing.plan.units))
    # Before a model is loaded: hidden rows are written beside the run long before the run is.
    with lock_run(place) as lock:
        existing = _same_run(place, identity)
        ready = make_ready(
            identity,
            begun.sources,
            tokenizer=begun.tokenizer,
            lexicon=begun.lexicon,
            stored=None if existing is None else existing.plan,
            watcher=watcher,
        )
        with _open_writer(place, ready, identity, begun.tokenizer, lock=lock) as writer:
            reused = len(writer.committed)
            with _nothing_left_of_an_empty_run(writer):
                score_units(ready, writer, identity.prepared.works, stop=stop, progress=progress)
            progress.note("Writing default statistics")
            writer.finish(
                {
                    "self_check": [_as_json(check) for check in ready.checks],
                    "noise_floor": None if ready.noise is None else ready.noise.to_json(),
                    "casting": None if ready.casting is None else ready.casting.to_json(),
                }
            )
            shutil.rmtree(hidden_folder(place), ignore_errors=True)
    return _report(identity, plan=ready.plan, reused=reused, ready=ready)


def check_settings(settings: RunSettings) -> None:
    """Refuse what no run can be made with."""
    scoring = settings.scoring
    require("://" not in settings.out, "a run is written to a local folder", settings.out)
    # The default statistics, written at the end of a run, need that many exact ranks.
    least = Decoding().top_k
    require(settings.store.top_k >= least, f"store.top_k must be >= {least}", settings.store.top_k)
    require(len(scoring.temperatures) > 0, "temperatures must name at least one", ())
    for temperature in scoring.temperatures:
        rule = f"scoring.temperatures must be >= {GREEDY_BELOW}, where divergences exist"
        require(temperature >= GREEDY_BELOW, rule, temperature)
    for name in ("token_budget", "chunk_tokens", "head_rows"):
        require(getattr(scoring, name) >= 1, f"scoring.{name} must be >= 1", getattr(scoring, name))


def check_place(place: Path) -> None:
    """Refuse early what the writer would refuse after the models are loaded."""
    there = next(each for each in (place, *place.absolute().parents) if os.path.exists(each))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UnwritablePath(
            f"{place} cannot be written: {there} is not a writable folder; choose another --out"
        )


def _same_run(place: Path, identity: Identity) -> Run | None:
    """The run that is there, if any; it goes on, or answers, only with the same question.

    Raises:
        RunDiffers: it was made from other inputs, models or settings.
    """
    if not place.exists():
        return None
    existing = open_run(str(place))
    stored = existing.manifest
    asked = manifest_of(identity, facts_of(stored))
    refuse(place, existing, changes(stored, asked))
    return existing


def _open_writer(
    place: Path, ready: Ready, identity: Identity, tokenizer: TokenizerAdapter, *, lock: RunLock
) -> RunWriter:
    if place.exists():
        return RunWriter.resume(place, plan=ready.plan, manifest=ready.manifest, lock=lock)
    return RunWriter.create(
        place,
        plan=ready.plan,
        manifest=ready.manifest,
        texts=Texts(
            identity.prepared.carriers,
            identity.prepared.encoded,
            tokenizer.vocabulary_bytes(ready.manifest.vocabulary_size),
        ),
        lock=lock,
    )


def scorer_of(ready: Ready, *, pause: Callable[[], None]) -> Scorer:
    """What scores the units of a run."""
    settings = ready.manifest.settings
    return Scorer(
        names=ready.manifest.model_names,
        models=ready.models,
        settings=RowSettings(
            top_k=settings.store.top_k,
            watched=np.array(ready.manifest.watched_ids, dtype=np.int64),
            temperatures=settings.scoring.temperatures,
            betas=tail_betas(settings.tail),
            measures=ready.manifest.measures,
        ),
        row_path=ready.plan.execution["row_path"],
        pause=pause,
    )


def score_units(
    ready: Ready,
    writer: RunWriter,
    works: Sequence[Work],
    *,
    stop: Stop,
    progress: Progress,
) -> None:
    """Score and commit every unit that is not there yet; one is written while the next is scored.

    Whatever ends this, the unit under way to the disk is committed first.
    """
    scorer = scorer_of(ready, pause=stop.check)
    by_index = {work.index: work for work in works}
    planned = ready.manifest.settings.scoring
    scoring = _least_budget(planned, writer.log)
    left = [unit for unit in writer.plan.units if unit.index not in writer.committed]
    rows = writer.plan.rows
    progress.start(rows, stored=rows - sum(unit.rows for unit in left))
    with _Writing(writer, progress) as writing:
        for unit in left:
            here = [by_index[index] for index in unit.carriers]
            with stop.unit():
                fitted = _within_memory(scorer, unit, here, scoring=scoring, log=writer.log)
                scoring = fitted.scoring
                notes = scorer.models.notes(unit.index)
                if scoring != planned:
                    notes["budget"] = budget_of(scoring)
                writing.put(unit, fitted.result, notes=notes)
            stop.check()


class _Writing:
    """Writes one unit at a time in a thread of its own; `put` or the end raise what that raised."""

    def __init__(self, writer: RunWriter, progress: Progress) -> None:
        self._writer = writer
        self._progress = progress
        self._pool = ThreadPoolExecutor(1)
        self._under_way: tuple[Unit, Future[None]] | None = None

    def put(self, unit: Unit, arrays: UnitArrays, *, notes: dict[str, Any]) -> None:
        """Begin to write this unit, once the one before is committed."""
        self._finish()
        self._under_way = (
            unit,
            self._pool.submit(self._writer.write_unit, unit, arrays, notes=notes),
        )

    def _finish(self) -> None:
        if self._under_way is not None:
            (unit, future), self._under_way = self._under_way, None
            future.result()
            self._progress.advance(unit.rows)

    def __enter__(self) -> "_Writing":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._finish()
        finally:
            self._pool.shutdown()


def _within_memory(
    scorer: Scorer, unit: Unit, works: Sequence[Work], *, scoring: Scoring, log: RunLog
) -> Fitted[UnitArrays]:
    """The unit's arrays, and the budget that memory allowed.

    Raises:
        ModelFault: Not even the least budget fits.
    """

    def told(smaller: Scoring) -> None:
        logger.warning("unit %d ran out of memory; again with %s", unit.index, budget_of(smaller))
        log.append(OUT_OF_MEMORY, unit=unit.index, budget=budget_of(smaller))

    fitted = within_memory(
        lambda budget: scorer.unit(unit.index, works, scoring=budget), scoring=scoring, told=told
    )
    if fitted is None:
        raise ModelFault(f"unit {unit.index} {TOO_LARGE}; finished units are kept")
    return fitted


def _least_budget(planned: Scoring, log: RunLog) -> Scoring:
    """With the budget that an earlier call came down to, if it ran out of memory."""
    found = [entry["budget"] for entry in log.entries() if entry.get("event") == OUT_OF_MEMORY]
    return with_budget(planned, found[-1]) if found else planned


@contextmanager
def _nothing_left_of_an_empty_run(writer: RunWriter) -> Iterator[None]:
    """A fault before the first commit leaves nothing; a stop leaves the run, to go on with."""
    try:
        yield
    except StoppedEarly:
        raise
    except BaseException:
        if not writer.committed:
            shutil.rmtree(writer.path, ignore_errors=True)
            writer.log.path.unlink(missing_ok=True)
        raise


def _report(
    identity: Identity,
    *,
    plan: Plan,
    reused: int,
    ready: Ready | None = None,
) -> ScoreReport:
    settings = identity.settings
    return ScoreReport(
        out=settings.out,
        models=(settings.baseline.name, *(other.name for other in settings.others)),
        counts=identity.prepared.counts,
        skipped=identity.prepared.skipped,
        cells=identity.prepared.cells,
        units=len(plan.units),
        reused_units=reused,
        changes=() if ready is None else ready.changes,
        checks=() if ready is None else ready.checks,
        noise=None if ready is None else ready.noise,
        casting=None if ready is None else ready.casting,
    )


def _as_json(check: SelfCheck) -> dict[str, Any]:
    """JSON knows no NaN: a difference that was not measured is null."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in asdict(check).items()
    }
