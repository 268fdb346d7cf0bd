"""Load the baseline and the others: full checkpoints, or LoRA adapters over shared weights."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from probing.errors import ModelFault, VocabularyMismatch
from probing.scoring.checkpoints import Checkpoint, resolve_adapter, resolve_model
from probing.settings import ModelSpec, RunSettings, Scoring

logger = logging.getLogger(__name__)

ANY_ATTENTION = "eager"
"""Every architecture supports it; used where the wanted attention is not supported."""

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
LORA_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Source:
    """Where one model of a run comes from: its settings and its files."""

    spec: ModelSpec
    files: Checkpoint

    @property
    def is_adapter(self) -> bool:
        """Whether it is a LoRA over the baseline."""
        return self.spec.adapter is not None


@dataclass(frozen=True)
class ScoredModel:
    """One model, ready to run.

    Attributes:
        name: in the run.
        causal_lm: the CausalLM; with adapters, the baseline's, LoRA layers in place.
        shared: the PEFT wrapper that switches them, where weights are shared.
        adapter: the adapter to switch on; None for the plain weights.
    """

    name: str
    causal_lm: PreTrainedModel
    shared: PeftModel | None = None
    adapter: str | None = None

    @contextmanager
    def active(self) -> Iterator[PreTrainedModel]:
        """The CausalLM with this model's weights in force, under inference mode."""
        with torch.inference_mode():
            if self.shared is None:
                yield self.causal_lm
            elif self.adapter is None:
                with self.shared.disable_adapter():
                    yield self.causal_lm
            else:
                self.shared.set_adapter(self.adapter, inference_mode=True)
                yield self.causal_lm

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        device: torch.device = self.causal_lm.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What its backbone computes in."""
        dtype: torch.dtype = self.causal_lm.dtype
        return dtype

    @property
    def attention(self) -> str:
        """The attention implementation in use."""
        return str(self.causal_lm.config._attn_implementation)

    @property
    def vocabulary(self) -> int:
        """Width of its logits, padded rows of the vocabulary included."""
        return int(self.causal_lm.get_output_embeddings().weight.shape[0])


def find_sources(settings: RunSettings) -> tuple[Source, ...]:
    """The files of every model, baseline first; nothing is loaded.

    Raises:
        ModelFault: A model's files are absent or not safetensors, or the baseline is an adapter.
    """
    if settings.baseline.path is None:
        raise ModelFault(
            f"the baseline must be a full checkpoint, got adapter {settings.baseline.adapter!r}; "
            "set `path` under [baseline]"
        )
    trust = settings.scoring.trust_remote_code
    found = []
    for spec in (settings.baseline, *settings.others):
        if spec.adapter is not None:
            files = resolve_adapter(spec.name, spec.adapter, revision=spec.revision)
        else:
            assert spec.path is not None, "ModelSpec has exactly one of path and adapter"
            files = resolve_model(
                spec.name, spec.path, revision=spec.revision, trust_remote_code=trust
            )
        found.append(Source(spec=spec, files=files))
    return tuple(found)


def resolve_device(device: str) -> torch.device:
    """`auto` is cuda, then mps, then cpu.

    Raises:
        ModelFault: The named device is not a device of this torch.
    """
    if device != "auto":
        try:
            chosen = torch.device(device)
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ModelFault(
                f"device {device!r} cannot be used: {reason}; set device = 'auto'"
            ) from error
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_dtype(sources: tuple[Source, ...], *, dtype: str) -> torch.dtype:
    """The dtype every backbone runs in.

    `auto` is the dtype in which the checkpoints are stored; where they differ, the narrowest
    dtype that holds them all, because a comparison across dtypes would measure the cast.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    stored = {
        source.spec.name: source.files.stored_dtype() or torch.float32
        for source in sources
        if not source.is_adapter
    }
    widest = next(iter(stored.values()))
    for each in stored.values():
        widest = torch.promote_types(widest, each)
    if len(set(stored.values())) > 1:
        logger.warning("checkpoints are stored in %s; all run in %s", stored, widest)
    return torch.float32 if widest == torch.float64 else widest


def load_models(
    sources: tuple[Source, ...], *, scoring: Scoring, dtype: torch.dtype
) -> tuple[ScoredModel, ...]:
    """Load every model onto one device, baseline first; adapters share the baseline's weights.

    Raises:
        ModelFault: A model cannot be loaded, or an adapter belongs to another base.
        VocabularyMismatch: Two models' logits differ in width.
    """
    device = resolve_device(scoring.device)
    groups = weight_groups(sources)
    loaded = {
        index: model
        for members in groups
        for index, model in zip(
            members,
            load_group([sources[i] for i in members], scoring=scoring, dtype=dtype, device=device),
            strict=True,
        )
    }
    models = tuple(loaded[index] for index in range(len(sources)))
    require_one_width({model.name: model.vocabulary for model in models})
    return models


def weight_groups(sources: Sequence[Source]) -> tuple[tuple[int, ...], ...]:
    """Places of the models that share weights: the baseline with all adapters, each full alone."""
    adapters = [i for i, source in enumerate(sources) if source.is_adapter]
    full = [i for i, source in enumerate(sources[1:], start=1) if not source.is_adapter]
    return ((0, *adapters), *((index,) for index in full))


def load_group(
    group: Sequence[Source], *, scoring: Scoring, dtype: torch.dtype, device: torch.device
) -> tuple[ScoredModel, ...]:
    """Load a checkpoint and the adapters over it.

    Raises:
        ModelFault: It cannot be loaded, or an adapter belongs to another base.
    """
    full, *adapters = group
    base = _load_full(full, scoring=scoring, dtype=dtype, device=device)
    shared = _load_adapters(base, adapters)
    return (
        ScoredModel(name=full.spec.name, causal_lm=base, shared=shared),
        *(
            ScoredModel(
                name=source.spec.name, causal_lm=base, shared=shared, adapter=_adapter_key(number)
            )
            for number, source in enumerate(adapters)
        ),
    )


def require_one_width(widths: Mapping[str, int]) -> None:
    """Refuse models whose logits differ in width; baseline first.

    Raises:
        VocabularyMismatch: Two do; both are named.
    """
    (first, width), *rest = widths.items()
    for name, other in rest:
        if other != width:
            raise VocabularyMismatch(
                f"models must give logits of one width; {first!r} gives {width}, {name!r} gives "
                f"{other}; resize the output embedding of one of them with "
                "`resize_token_embeddings`"
            )


def _adapter_key(number: int) -> str:
    """A name that PEFT can use inside module paths: a model's own may hold dots."""
    return f"adapter_{number}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of Transformers, and no warning about PEFT's use of an old name."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="`is_gradient_checkpointing`", category=FutureWarning
            )
            yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


def _load_full(
    source: Source, *, scoring: Scoring, dtype: torch.dtype, device: torch.device
) -> PreTrainedModel:
    """One checkpoint, in the wanted attention where the architecture has it."""
    name, folder = source.spec.name, source.files.folder
    for attention in dict.fromkeys((scoring.attention, ANY_ATTENTION)):
        try:
            with _quiet():
                model, report = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=dtype,
                    attn_implementation=attention,
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=scoring.trust_remote_code,
                    output_loading_info=True,
                )
        except (ValueError, ImportError) as error:
            if attention == ANY_ATTENTION:
                raise _cannot_load(name, folder, error) from error
            logger.warning("model %s: no %s attention (%s)", name, attention, error)
            continue
        except (OSError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise _cannot_load(name, folder, error) from error
        break
    # Transformers fills what a file lacks with random numbers; a comparison must not.
    for kind in ("missing_keys", "mismatched_keys"):
        if report.get(kind):
            first = min(str(key) for key in report[kind])
            raise ModelFault(
                f"model {name!r}: its files must hold every weight of its config; {kind}: {first} "
                f"(and {len(report[kind]) - 1} more) in {folder}; save or download it again"
            )
    if report.get("unexpected_keys"):
        logger.info("model %s: %d tensors unused", name, len(report["unexpected_keys"]))
    return model.to(device).eval().requires_grad_(False)


def _cannot_load(name: str, folder: object, error: Exception) -> ModelFault:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelFault(
        f"model {name!r} cannot be loaded from {folder} as a causal language model: {reason}; "
        "check its config.json, or set trust_remote_code = true if it brings its own code"
    )


def _load_adapters(base: PreTrainedModel, sources: list[Source]) -> PeftModel | None:
    """Put every adapter's layers into `base`; None without adapters."""
    shared: PeftModel | None = None
    # All are checked before the first changes the module tree.
    for source in sources:
        _check_adapter(source, base)
    for number, source in enumerate(sources):
        key = _adapter_key(number)
        folder = str(source.files.folder)
        try:
            with _quiet():
                if shared is None:
                    shared = PeftModel.from_pretrained(base, folder, adapter_name=key)
                else:
                    shared.load_adapter(folder, adapter_name=key)
        except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelFault(
                f"adapter {source.spec.name!r} cannot be put over the baseline: {reason}; give "
                "the checkpoint it was trained on as [baseline]"
            ) from error
    return shared.eval().requires_grad_(False) if shared is not None else None


def _check_adapter(source: Source, base: PreTrainedModel) -> None:
    """Compare every LoRA matrix with the module it goes to; name the first that does not fit."""
    modules = dict(base.named_modules())
    matrices = 0
    for key, shape in sorted(source.files.shapes().items()):
        found = LORA_KEY.fullmatch(key)
        if found is None:
            continue
        matrices += 1
        module = modules.get(found["module"])
        weight = getattr(module, "weight", None)
        if weight is None:
            raise ModelFault(
                f"adapter {source.spec.name!r} is for another base: it adapts {found['module']}, "
                f"which the baseline ({type(base).__name__}) does not have; give the checkpoint "
                "it was trained on as [baseline]"
            )
        # A maps the module's inputs (last axis of its weight), B gives its outputs (first axis);
        # Conv1D keeps its weight the other way round.
        sizes = weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape
        wanted = sizes[-1] if found["side"] == "A" else sizes[0]
        got = shape[-1] if found["side"] == "A" else shape[0]
        if got != wanted:
            raise ModelFault(
                f"adapter {source.spec.name!r} is for another base: {key} has size {got} where "
                f"the baseline's {found['module']} has {wanted}; give the checkpoint it was "
                "trained on as [baseline]"
            )
    if not matrices:
        raise ModelFault(
            f"adapter {source.spec.name!r} holds no LoRA matrices: {source.files.shards[0]}; save "
            "it again with `peft_model.save_pretrained(folder)`"
        )
