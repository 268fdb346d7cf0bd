"""The whole path from carriers to a run, unit by unit, resumable."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from probing.analysis.tail import tail_betas
from probing.carriers.record import Skipped
from probing.carriers.sampling import Cell
from probing.errors import RunDiffers, StoppedEarly, UnwritablePath, VocabularyMismatch
from probing.lexicon import Lexicon
from probing.scoring.models import (
    ScoredModel,
    Source,
    find_sources,
    load_models,
    resolve_dtype,
)
from probing.scoring.preparing import Prepared, prepare
from probing.scoring.provenance import (
    Facts,
    Identity,
    facts_of,
    identify,
    installed_versions,
    manifest_of,
    model_facts,
)
from probing.scoring.reduced import RowSettings
from probing.scoring.rows import row_path
from probing.scoring.selfcheck import Checked, SelfCheck, check_model
from probing.scoring.stopping import Stop, stoppable
from probing.scoring.units import Scorer, Work
from probing.scoring.watching import load_tokenizer, watched_ids
from probing.scoring.weights import WeightChange, adapter_change, full_change
from probing.settings import GREEDY_BELOW, Decoding, RunSettings, require
from probing.store.manifest import Manifest, differences
from probing.store.plan import Plan, make_plan
from probing.store.reader import Run, open_run
from probing.store.writer import RunWriter
from probing.tokens.adapter import TokenizerAdapter

logger = logging.getLogger(__name__)

ENGINE, MEMORY_MODE = "local", "together"
CHECK_CARRIERS = 2


@runtime_checkable
class Progress(Protocol):
    """What the scorer says while it works; the command line draws it."""

    def start(self, total_positions: int) -> None:
        """Scoring begins; so many positions in all."""
        ...

    def advance(self, positions: int) -> None:
        """So many more are stored (or were, before a resume)."""
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

    @property
    def was_complete(self) -> bool:
        """Nothing was left to do."""
        return self.units == self.reused_units and not self.checks


@dataclass(frozen=True)
class _Ready:
    """Models loaded and checked, and the plan and manifest of the run."""

    scorer_parts: tuple[Checked, ...]
    plan: Plan
    manifest: Manifest
    changes: tuple[WeightChange, ...]


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
    _check_settings(settings)
    place = Path(settings.out)
    _check_place(place)
    lexicon = Lexicon.load(settings.selection.lexicon)
    sources = find_sources(settings)
    progress.note("Reading carriers and tokenising")
    tokenizer = load_tokenizer(sources, trust_remote_code=settings.scoring.trust_remote_code)
    prepared = prepare(settings, tokenizer=tokenizer, lexicon=lexicon)
    progress.note("Fingerprinting weights")
    identity = identify(
        settings, sources=sources, tokenizer=tokenizer, lexicon=lexicon, prepared=prepared
    )
    existing = open_run(settings.out) if place.exists() else None
    if existing is not None and existing.complete:
        _check_same(existing, identity)
        progress.note(f"{place} is complete; nothing to score")
        return _report(identity, plan=existing.plan, reused=len(existing.plan.units))
    ready = _make_ready(identity, sources, tokenizer=tokenizer, lexicon=lexicon, progress=progress)
    with stoppable() as stop, closing(_open_writer(place, ready, identity, tokenizer)) as writer:
        reused = len(writer.committed)
        scorer = _scorer(ready, stop=stop)
        with _nothing_left_of_an_empty_run(writer):
            _score_units(scorer, writer, prepared.works, progress=progress)
        progress.note("Writing default statistics")
        checks = tuple(part.check for part in ready.scorer_parts)
        writer.finish({"self_check": [_as_json(check) for check in checks]})
    return _report(identity, plan=ready.plan, reused=reused, changes=ready.changes, checks=checks)


def _check_settings(settings: RunSettings) -> None:
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


def _check_place(place: Path) -> None:
    """Refuse early what the writer would refuse after the models are loaded."""
    there = next(each for each in (place, *place.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UnwritablePath(
            f"{place} cannot be written: {there} is not a writable folder; choose another --out"
        )


def _check_same(existing: Run, identity: Identity) -> None:
    """A complete run is the answer only to the same question."""
    stored = existing.manifest
    found = differences(stored.to_json(), manifest_of(identity, facts_of(stored)).to_json())
    if found:
        listed = "\n  ".join(found)
        raise RunDiffers(
            f"{identity.settings.out} is complete and was made from other inputs, models or "
            f"settings:\n  {listed}\nrestore them, give a new --out, or delete it"
        )


def _make_ready(
    identity: Identity,
    sources: tuple[Source, ...],
    *,
    tokenizer: TokenizerAdapter,
    lexicon: Lexicon,
    progress: Progress,
) -> _Ready:
    """Compare weights, load and check the models, fix the plan and the manifest."""
    settings, works = identity.settings, identity.prepared.works
    dtype = resolve_dtype(sources, dtype=settings.scoring.dtype)
    progress.note("Comparing weights")
    changes = tuple(_change(sources[0], other, dtype=dtype) for other in sources[1:])
    progress.note("Loading models")
    models = load_models(sources, scoring=settings.scoring, dtype=dtype)
    vocabulary = models[0].vocabulary
    _check_vocabulary(works, tokenizer=tokenizer, model=models[0])
    plan_works = sorted(works, key=lambda work: (work.wanted.length, work.index))
    longest = max((work.wanted.length for work in works), default=0)
    first = [work.wanted for work in plan_works[:CHECK_CARRIERS]]
    progress.note("Checking two passes against one")
    checked = (
        tuple(
            check_model(
                model,
                first,
                scoring=settings.scoring,
                chunked=longest > settings.scoring.chunk_tokens,
            )
            for model in models
        )
        if works
        else ()
    )
    facts = Facts(
        vocabulary_size=vocabulary,
        watched_ids=watched_ids(
            tokenizer, lexicon, limit=settings.store.max_watched, vocabulary=vocabulary
        ),
        models={
            model.name: model_facts(dtype=dtype, attention=model.attention, change=change)
            for model, change in zip(models, (None, *changes), strict=True)
        },
        versions=installed_versions(),
    )
    return _Ready(
        scorer_parts=checked,
        plan=_plan(identity.prepared, settings, models=models, checked=checked),
        manifest=manifest_of(identity, facts),
        changes=changes,
    )


def _change(baseline: Source, other: Source, *, dtype: torch.dtype) -> WeightChange:
    if other.is_adapter:
        return adapter_change(other.files, dtype=dtype)
    return full_change(baseline.files, other.files, dtype=dtype)


def _check_vocabulary(
    works: Sequence[Work], *, tokenizer: TokenizerAdapter, model: ScoredModel
) -> None:
    largest = max((int(work.encoded.token_ids.max()) for work in works), default=0)
    if largest >= model.vocabulary:
        raise VocabularyMismatch(
            f"every id of the tokenizer must have a logit; {model.name!r} gives "
            f"{model.vocabulary} and the carriers use id {largest} (the tokenizer has "
            f"{tokenizer.vocab_size}); put the model's own tokenizer beside its weights"
        )


def _plan(
    prepared: Prepared,
    settings: RunSettings,
    *,
    models: Sequence[ScoredModel],
    checked: Sequence[Checked],
) -> Plan:
    """Carriers in units; tokens are those that are run, up to the last chosen position."""
    lengths = np.zeros(len(prepared.carriers), dtype=np.int64)
    positions = np.zeros(len(prepared.carriers), dtype=np.int64)
    for work in prepared.works:
        lengths[work.index] = work.wanted.length
        positions[work.index] = len(work.selected.position)
    scoring = settings.scoring
    execution: dict[str, Any] = {
        "engine": ENGINE,
        "memory_mode": MEMORY_MODE,
        "device": models[0].device.type,
        "dtype": str(models[0].dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "token_budget": scoring.token_budget,
        "chunk_tokens": scoring.chunk_tokens,
        "head_rows": scoring.head_rows,
        "row_path": row_path(models[0].device),
        "two_pass": {part.check.name: part.check.two_pass for part in checked},
    }
    return make_plan(
        lengths.tolist(), positions.tolist(), layout=settings.store, execution=execution
    )


def _open_writer(
    place: Path, ready: _Ready, identity: Identity, tokenizer: TokenizerAdapter
) -> RunWriter:
    if place.exists():
        return RunWriter.resume(place, plan=ready.plan, manifest=ready.manifest)
    return RunWriter.create(
        place,
        plan=ready.plan,
        manifest=ready.manifest,
        carriers=identity.prepared.carriers,
        encoded=identity.prepared.encoded,
        vocabulary_bytes=tokenizer.vocabulary_bytes(ready.manifest.vocabulary_size),
    )


def _scorer(ready: _Ready, *, stop: Stop) -> Scorer:
    settings = ready.manifest.settings
    return Scorer(
        names=ready.manifest.model_names,
        runners=tuple(part.runner for part in ready.scorer_parts),
        rows=RowSettings(
            top_k=settings.store.top_k,
            watched=np.array(ready.manifest.watched_ids, dtype=np.int64),
            temperatures=settings.scoring.temperatures,
            betas=tail_betas(settings.tail),
            measures=ready.manifest.measures,
        ),
        row_path=ready.plan.execution["row_path"],
        head_rows=settings.scoring.head_rows,
        pause=stop.check,
    )


def _score_units(
    scorer: Scorer, writer: RunWriter, works: Sequence[Work], *, progress: Progress
) -> None:
    """Score and commit every unit that is not there yet."""
    by_index = {work.index: work for work in works}
    progress.start(writer.plan.rows)
    for unit in writer.plan.units:
        if unit.index not in writer.committed:
            arrays = scorer.unit([by_index[index] for index in unit.carriers])
            writer.write_unit(unit, arrays)
        progress.advance(unit.rows)


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
    changes: tuple[WeightChange, ...] = (),
    checks: tuple[SelfCheck, ...] = (),
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
        changes=changes,
        checks=checks,
    )


def _as_json(check: SelfCheck) -> dict[str, Any]:
    """JSON knows no NaN: a difference that was not measured is null."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in asdict(check).items()
    }
