"""Models ready to be asked for their rows, and the plan and manifest of the run."""

import gc
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from probing.errors import ModelFault, StoppedEarly, VocabularyMismatch
from probing.lexicon import Lexicon
from probing.scoring.casting import (
    HOW_TO_SWITCH_OFF,
    BothDtypes,
    OneDtype,
    compare_dtypes,
    too_large,
)
from probing.scoring.forward import Runner, TwoPass
from probing.scoring.heads import Head
from probing.scoring.memory import MemoryPlan, bound_kernel_cache, needs, plan_memory
from probing.scoring.models import (
    ScoredModel,
    Source,
    load_group,
    require_one_width,
    resolve_dtype,
)
from probing.scoring.noise import noise_floor, noise_sample
from probing.scoring.preparing import Prepared
from probing.scoring.provenance import (
    Facts,
    Identity,
    installed_versions,
    manifest_of,
    model_facts,
)
from probing.scoring.rows import row_path
from probing.scoring.running_out import budget_of
from probing.scoring.selfcheck import Checked, SelfCheck, check_model
from probing.scoring.sequential import HiddenStore, Spilled, spill_units
from probing.scoring.units import Resident, UnitRows, Work
from probing.scoring.watching import watched_ids
from probing.scoring.weights import WeightChange, adapter_change, full_change
from probing.settings import Scoring, StoreLayout
from probing.store.casting import Casting
from probing.store.manifest import Manifest
from probing.store.noise import NoiseFloor
from probing.store.objects import canonical
from probing.store.plan import Plan, make_plan
from probing.tokens.adapter import TokenizerAdapter

logger = logging.getLogger(__name__)

ENGINE = "local"
CHECK_CARRIERS = 2


@dataclass(frozen=True)
class Ready:
    """Everything that scoring needs.

    Attributes:
        models: where the rows of each unit come from.
        plan, manifest: of the run.
        changes: of each other model's weights.
        checks: of each model's two passes.
        noise: the baseline's noise floor; None where it was not measured.
        casting: what the dtype does beside float32; None where it was not measured.
    """

    models: UnitRows
    plan: Plan
    manifest: Manifest
    changes: tuple[WeightChange, ...]
    checks: tuple[SelfCheck, ...]
    noise: NoiseFloor | None
    casting: Casting | None


@runtime_checkable
class Watcher(Protocol):
    """Who is told what happens, and may stop it."""

    def note(self, text: str) -> None:
        """A step begins, or something worth knowing happened."""
        ...

    def pause(self) -> None:
        """Between steps; raises to stop."""
        ...


@dataclass(frozen=True)
class Preparation:
    """What is known before a model of the run is loaded.

    `cast` holds every model in float32; each is added in the run's dtype while it is in memory.
    None where dtypes are not compared.
    """

    identity: Identity
    sources: tuple[Source, ...]
    tokenizer: TokenizerAdapter
    lexicon: Lexicon
    memory: MemoryPlan
    dtype: torch.dtype
    changes: tuple[WeightChange, ...]
    cast: BothDtypes | None = None

    @property
    def scoring(self) -> Scoring:
        """Of the run's settings."""
        return self.identity.settings.scoring

    @property
    def by_length(self) -> list[Work]:
        """All work, shortest first."""
        works = self.identity.prepared.works
        return sorted(works, key=lambda work: (work.wanted.length, work.index))


def make_ready(
    identity: Identity,
    sources: tuple[Source, ...],
    *,
    tokenizer: TokenizerAdapter,
    lexicon: Lexicon,
    stored: Plan | None,
    watcher: Watcher,
) -> Ready:
    """Compare weights, choose the memory mode, load and check the models, fix plan and manifest.

    Args:
        identity: of the run.
        sources: the files of every model.
        tokenizer: of the run.
        lexicon: of the run.
        stored: the plan of the run that goes on: under `auto` it keeps its memory mode.
        watcher: is told of every step.
    """
    bound_kernel_cache()
    scoring, works = identity.settings.scoring, identity.prepared.works
    dtype = resolve_dtype(sources, dtype=scoring.dtype)
    watcher.note("Comparing weights")
    changes = tuple(_change(sources[0], other, dtype=dtype) for other in sources[1:])
    longest = max((work.wanted.length for work in works), default=0)
    if stored is not None and scoring.memory_mode == "auto":
        scoring = replace(scoring, memory_mode=stored.execution["memory_mode"])
    found = needs(sources, dtype=dtype, longest=longest, scoring=scoring)
    memory = plan_memory(found, scoring=scoring)
    watcher.note(memory.reason)
    preparation = Preparation(identity, sources, tokenizer, lexicon, memory, dtype, changes)
    _plan(preparation)  # Refuses to begin where no position was chosen.
    preparation = replace(preparation, cast=_in_float32(preparation, watcher=watcher))
    if memory.mode == "sequential":
        return _sequential(preparation, watcher=watcher)
    return _resident(preparation, watcher=watcher)


def _change(baseline: Source, other: Source, *, dtype: torch.dtype) -> WeightChange:
    if other.is_adapter:
        return adapter_change(other.files, dtype=dtype)
    return full_change(baseline.files, other.files, dtype=dtype)


@dataclass(frozen=True)
class _Seen:
    """What is left to say of a model once it is gone."""

    check: SelfCheck
    vocabulary: int
    attention: str
    device: torch.device
    products: str
    noise: NoiseFloor | None


def _in_float32(preparation: Preparation, *, watcher: Watcher) -> BothDtypes | None:
    """Every model at a few positions in float32, one set of weights at a time.

    A run in half precision only, before its own models are loaded. Whatever hinders it is said,
    and the run goes on without.
    """
    wanted = [work.wanted for work in preparation.by_length]
    sample = noise_sample(wanted, count=preparation.scoring.cast_carriers)
    if preparation.dtype == torch.float32 or not sample:
        return None
    found = needs(
        preparation.sources,
        dtype=torch.float32,
        longest=max(carrier.length for carrier in sample),
        scoring=preparation.scoring,
    )
    exact = OneDtype(sample)
    fault = too_large(found, memory=preparation.memory) or _add_all(preparation, exact, watcher)
    if fault:
        watcher.note(f"float32 is not compared: {fault}; {HOW_TO_SWITCH_OFF}")
        return None
    exact.let_go()
    return BothDtypes(preparation.dtype, run=OneDtype(sample), exact=exact)


def _add_all(preparation: Preparation, exact: OneDtype, watcher: Watcher) -> str:
    """Add every model in float32, group by group; why that failed, or empty."""
    fault = ""
    for place, members in enumerate(preparation.memory.groups):
        watcher.note(f"Running {_names(preparation, members)} in float32 on a few positions")
        try:
            _add_in_float32(preparation, place, exact, watcher)
        except StoppedEarly:
            raise
        except Exception as error:  # A model of its own shape may fail in any way in float32.
            fault = " ".join(str(error).split()) or type(error).__name__
        _let_go()
        if exact.incomplete:
            fault = "its rows do not fit in memory"
        if fault:
            break
    return fault


def _add_in_float32(
    preparation: Preparation, place: int, exact: OneDtype, watcher: Watcher
) -> None:
    """Load one group in float32 and add its models."""
    copies = replace(preparation, dtype=torch.float32)
    for model in _load(copies, place):
        watcher.pause()
        exact.add(model.name, _checked(model, copies).runner, scoring=preparation.scoring)


def _let_go() -> None:
    """Of models that nothing names any more."""
    gc.collect()
    torch.cuda.empty_cache()


def _checked(model: ScoredModel, preparation: Preparation) -> Checked:
    """Check one loaded model on the shortest carriers."""
    works = preparation.by_length
    largest = max((int(work.encoded.token_ids.max()) for work in works), default=0)
    if largest >= model.vocabulary:
        raise VocabularyMismatch(
            f"every id of the tokenizer must have a logit; {model.name!r} gives "
            f"{model.vocabulary} and the carriers use id {largest} (the tokenizer has "
            f"{preparation.tokenizer.vocab_size}); put the model's own tokenizer beside its weights"
        )
    return check_model(
        model,
        [work.wanted for work in works[:CHECK_CARRIERS]],
        scoring=preparation.scoring,
        chunked=works[-1].wanted.length > preparation.scoring.chunk_tokens,
    )


def _check(model: ScoredModel, preparation: Preparation) -> tuple[Runner, _Seen]:
    """Check one loaded model; its way to logits, and what was seen.

    While it is in memory, its rows for the comparison of dtypes are taken, and of the baseline the
    noise floor is measured.
    """
    checked = _checked(model, preparation)
    runner = checked.runner
    products = runner.head.products if isinstance(runner, TwoPass) else str(model.dtype)
    noise = None
    if model.name == preparation.sources[0].spec.name:
        wanted = [work.wanted for work in preparation.by_length]
        noise = noise_floor(runner, wanted, scoring=preparation.scoring)
    if preparation.cast is not None:
        preparation.cast.run.add(model.name, runner, scoring=preparation.scoring)
    return runner, _Seen(
        checked.check, model.vocabulary, model.attention, model.device, products, noise
    )


def _load(preparation: Preparation, place: int) -> tuple[ScoredModel, ...]:
    """The models of one group, on its device."""
    memory = preparation.memory
    return load_group(
        [preparation.sources[member] for member in memory.groups[place]],
        scoring=preparation.scoring,
        dtype=preparation.dtype,
        device=memory.devices[place],
    )


def _resident(preparation: Preparation, *, watcher: Watcher) -> Ready:
    """Every model in memory at once."""
    seen: dict[int, _Seen] = {}
    runners: dict[int, Runner] = {}
    for place, members in enumerate(preparation.memory.groups):
        watcher.note(f"Loading and checking {_names(preparation, members)}")
        for member, model in zip(members, _load(preparation, place), strict=True):
            watcher.pause()
            runners[member], seen[member] = _check(model, preparation)
    in_order = tuple(runners[index] for index in range(len(runners)))
    return _ready(preparation, seen, models=Resident(in_order, watcher.pause))


def _sequential(preparation: Preparation, *, watcher: Watcher) -> Ready:
    """One set of weights at a time: hidden rows of every unit to the disk, then only its heads."""
    plan = _plan(preparation)
    store = _hidden_store(preparation, plan)
    seen: dict[int, _Seen] = {}
    heads: dict[int, Head] = {}
    for place, members in enumerate(preparation.memory.groups):
        watcher.note(f"Running {_names(preparation, members)} alone")
        kept = _run_alone(preparation, place, plan, store, watcher)
        for member, (one, head) in zip(members, kept, strict=True):
            seen[member], heads[member] = one, head
        _let_go()
    order = range(len(seen))
    models = Spilled(store, [heads[i] for i in order], [seen[i].device for i in order])
    return _ready(preparation, seen, models=models)


def _run_alone(
    preparation: Preparation, place: int, plan: Plan, store: HiddenStore, watcher: Watcher
) -> list[tuple[_Seen, Head]]:
    """Load one group, keep its hidden rows of every unit, and return no more than its heads."""
    by_index = {work.index: work.wanted for work in preparation.identity.prepared.works}
    kept = []
    members = preparation.memory.groups[place]
    for member, model in zip(members, _load(preparation, place), strict=True):
        watcher.pause()
        runner, seen = _check(model, preparation)
        if not isinstance(runner, TwoPass):
            raise ModelFault(
                f"memory_mode = 'sequential' needs two passes; model {model.name!r} runs whole "
                f"({seen.check.note}); set memory_mode = 'together' under [scoring]"
            )
        spill_units(
            runner,
            [[by_index[index] for index in unit.carriers] for unit in plan.units],
            store=store,
            model=member,
            scoring=preparation.scoring,
            pause=watcher.pause,
        )
        kept.append((seen, Head(model, alone=True)))
    return kept


def _hidden_store(preparation: Preparation, plan: Plan) -> HiddenStore:
    """Beside the run, under a key of everything that decides a hidden row."""
    nothing_loaded = Facts(0, (), {}, installed_versions())
    manifest = manifest_of(preparation.identity, nothing_loaded)
    key = hashlib.sha256(canonical([manifest.to_json(), plan.to_json()])).hexdigest()
    return HiddenStore(Path(preparation.identity.settings.out), key=key)


def _names(preparation: Preparation, members: Sequence[int]) -> str:
    return " and ".join(preparation.sources[member].spec.name for member in members)


def _ready(
    preparation: Preparation,
    seen: Mapping[int, _Seen],
    *,
    models: UnitRows,
) -> Ready:
    """Plan and manifest, once every model was seen."""
    every = [seen[index] for index in range(len(seen))]
    checks = tuple(each.check for each in every)
    require_one_width(
        {check.name: each.vocabulary for check, each in zip(checks, every, strict=True)}
    )
    vocabulary = every[0].vocabulary
    settings = preparation.identity.settings
    changes = (None, *preparation.changes)
    facts = Facts(
        vocabulary_size=vocabulary,
        watched_ids=watched_ids(
            preparation.tokenizer,
            preparation.lexicon,
            limit=settings.store.max_watched,
            vocabulary=vocabulary,
        ),
        models={
            check.name: model_facts(
                dtype=preparation.dtype, attention=each.attention, change=change
            )
            for check, each, change in zip(checks, every, changes, strict=True)
        },
        versions=installed_versions(),
    )
    return Ready(
        models=models,
        plan=_plan(
            preparation,
            two_pass={check.name: check.two_pass for check in checks},
            products={check.name: each.products for check, each in zip(checks, every, strict=True)},
        ),
        manifest=manifest_of(preparation.identity, facts),
        changes=preparation.changes,
        checks=checks,
        noise=every[0].noise,
        casting=_casting(preparation),
    )


def _casting(preparation: Preparation) -> Casting | None:
    """What the run's dtype does, once every model was seen; warns of what it may have made."""
    if preparation.cast is None:
        return None
    names = [source.spec.name for source in preparation.sources]
    casting = compare_dtypes(preparation.cast, names=names)
    for warning in casting.warnings if casting is not None else ():
        logger.warning("%s", warning)
    return casting


def _plan(preparation: Preparation, **of_models: dict[str, Any]) -> Plan:
    """Carriers in units; tokens are those that are run, up to the last chosen position.

    `of_models` is what only loaded models tell of how they run; the units do not depend on it.
    """
    scoring = preparation.scoring
    devices = preparation.memory.devices
    execution: dict[str, Any] = {
        "engine": ENGINE,
        "memory_mode": preparation.memory.mode,
        "device": " ".join(dict.fromkeys(device.type for device in devices)),
        "dtype": str(preparation.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        **budget_of(scoring),
        "row_path": row_path(devices[0]),
        **of_models,
    }
    identity = preparation.identity
    return plan_work(identity.prepared, layout=identity.settings.store, execution=execution)


def plan_work(
    prepared: Prepared, *, layout: StoreLayout, execution: dict[str, Any] | None = None
) -> Plan:
    """Carriers in units; `execution` does not move them.

    Raises:
        NoCarriersLeft: no carrier has a position.
    """
    lengths = [0] * len(prepared.carriers)
    positions = [0] * len(prepared.carriers)
    for work in prepared.works:
        lengths[work.index] = work.wanted.length
        positions[work.index] = len(work.selected.position)
    return make_plan(lengths, positions, layout=layout, execution=execution)
