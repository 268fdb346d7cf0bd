"""Which weights training changed: a streamed comparison of files, before and after the cast."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from probing.errors import IdenticalModel
from probing.scoring.checkpoints import Checkpoint, OpenTensors, read_adapter_config

BLOCK_ELEMENTS = 1 << 22
"""Elements compared at a time, so that no tensor is ever whole in memory, nor one expert of it."""

LAYER_NUMBER = re.compile(r"\.\d+\.")
OUTPUT_NAME, INPUT_SUFFIX = "lm_head.weight", "embed_tokens.weight"
UNUSED_PREFIXES = ("model.visual.", "visual.", "mtp.")
"""Tensors of multimodal or multi-token checkpoints that a causal language model leaves unread."""


@dataclass
class _Count:
    elements: int = 0
    changed_stored: int = 0
    changed_cast: int = 0


@dataclass(frozen=True)
class GroupChange:
    """Change of one tensor group: the same tensor of every layer.

    Attributes:
        group: e.g. `layers.self_attn.q_proj`.
        elements: compared (a full checkpoint), or in LoRA's B matrices (an adapter).
        changed_stored: share of elements that differ as stored; of an adapter, that are not 0.
        changed_cast: the same, once both are cast to the dtype that is scored.
    """

    group: str
    elements: int
    changed_stored: float
    changed_cast: float


@dataclass(frozen=True)
class WeightChange:
    """How one other model's weights differ from the baseline's.

    Attributes:
        name: the other model's.
        groups: by group name.
        changed_stored, changed_cast: over all groups, see `GroupChange`.
        unmatched: tensors that only one of the two files holds.
    """

    name: str
    groups: tuple[GroupChange, ...]
    changed_stored: float
    changed_cast: float
    unmatched: tuple[str, ...] = field(default=())


def full_change(baseline: Checkpoint, other: Checkpoint, *, dtype: torch.dtype) -> WeightChange:
    """Compare two full checkpoints tensor by tensor.

    Names are matched without the `language_model` part that multimodal files add; a tied output
    embedding that only one file stores is compared with the other's input embedding.

    Raises:
        IdenticalModel: No shared tensor differs, as stored or once cast to `dtype`.
    """
    ours, theirs = _text_names(baseline.shard_of), _text_names(other.shard_of)
    pairs, unmatched = _matched(ours, theirs)
    shapes = baseline.shapes(), other.shapes()
    counts: dict[str, _Count] = {}
    with baseline.opened() as first, other.opened() as second:
        for name, (our_key, their_key) in sorted(pairs.items()):
            count = counts.setdefault(_group(name), _Count())
            if shapes[0][our_key] != shapes[1][their_key]:
                _count_all(count, shapes[1][their_key])
                continue
            _compare(count, _blocks(first, our_key), _blocks(second, their_key), dtype=dtype)
    change = _summary(other.name, counts, unmatched=unmatched)
    one_holds_all = len(pairs) in (len(ours), len(theirs))
    if change.changed_stored == 0 and one_holds_all:
        raise IdenticalModel(
            f"model {other.name!r} must differ from the baseline; all {len(pairs)} tensors of "
            f"{other.folder} equal those of {baseline.folder}; check that `path` names the trained "
            "checkpoint"
        )
    if change.changed_cast == 0 and one_holds_all:
        raise IdenticalModel(
            f"model {other.name!r} equals the baseline once cast to {dtype}, although "
            f"{change.changed_stored:.2%} of its stored weights differ; set dtype = 'float32' "
            "under [scoring]"
        )
    return change


def adapter_change(adapter: Checkpoint, *, dtype: torch.dtype) -> WeightChange:
    """Share of LoRA B elements that are not zero, per group of adapted modules.

    The change to a module's weight is B A: with B or A all zero it is none.

    Raises:
        IdenticalModel: Every B A is zero and the adapter holds nothing else.
    """
    counts: dict[str, _Count] = {}
    acts = False
    with adapter.opened() as file:
        for key in sorted(adapter.shard_of):
            side = "lora_B" if "lora_B" in key else "lora_embedding_B"
            if side not in key:
                acts = acts or "lora_" not in key  # A saved module or bias acts by itself.
                continue
            count = counts.setdefault(_group(key.split(f".{side}")[0]), _Count())
            before = count.changed_stored
            for block in _blocks(file, key):
                count.elements += block.numel()
                count.changed_stored += int(torch.count_nonzero(block))
                count.changed_cast += int(torch.count_nonzero(block.to(dtype)))
            mate = key.replace(side, side.replace("_B", "_A"))
            if count.changed_stored > before and mate in adapter.shard_of:
                acts = acts or any(bool(block.any()) for block in _blocks(file, mate))
    if not acts or read_adapter_config(adapter).get("lora_alpha") == 0:
        raise IdenticalModel(
            f"adapter {adapter.name!r} must change the baseline; its B A is zero in all "
            f"{len(counts)} groups of {adapter.folder}; check that it was saved after training"
        )
    return _summary(adapter.name, counts, unmatched=())


def _text_names(keys: Iterable[str]) -> dict[str, str]:
    """Stored key by its name in the plain language model, unused parts left out."""
    named = {}
    for key in keys:
        name = key.replace("model.language_model.", "model.").replace(
            "language_model.model.", "model."
        )
        name = name.replace("language_model.lm_head.", "lm_head.")
        if not name.startswith(UNUSED_PREFIXES):
            named[name] = key
    return named


def _matched(
    ours: Mapping[str, str], theirs: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """Keys to compare by name, and the names that only one side holds."""
    pairs = {name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys()}
    unmatched = sorted(ours.keys() ^ theirs.keys())
    if OUTPUT_NAME in unmatched:
        unmatched.remove(OUTPUT_NAME)
        sides = [
            side.get(OUTPUT_NAME)
            or next(side[name] for name in side if name.endswith(INPUT_SUFFIX))
            for side in (ours, theirs)
        ]
        pairs[OUTPUT_NAME] = (sides[0], sides[1])
    return pairs, tuple(unmatched)


def _group(name: str) -> str:
    """`model.layers.3.self_attn.q_proj.weight` is `layers.self_attn.q_proj`."""
    plain = LAYER_NUMBER.sub(".", name.removeprefix("base_model.model."))
    return plain.removeprefix("model.").removesuffix(".weight")


def _blocks(file: OpenTensors, key: str) -> Iterable[torch.Tensor]:
    return file.blocks(key, block_elements=BLOCK_ELEMENTS)


def _compare(
    count: _Count,
    ours: Iterable[torch.Tensor],
    theirs: Iterable[torch.Tensor],
    *,
    dtype: torch.dtype,
) -> None:
    for our_block, their_block in zip(ours, theirs, strict=True):
        count.elements += our_block.numel()
        # The wider of the two dtypes holds both exactly.
        wide = torch.promote_types(our_block.dtype, their_block.dtype)
        changed = our_block.to(wide) != their_block.to(wide)
        count.changed_stored += int(torch.count_nonzero(changed))
        count.changed_cast += int(torch.count_nonzero(our_block.to(dtype) != their_block.to(dtype)))


def _count_all(count: _Count, shape: tuple[int, ...]) -> None:
    """A tensor of another shape counts as changed throughout."""
    elements = 1
    for size in shape:
        elements *= size
    count.elements += elements
    count.changed_stored += elements
    count.changed_cast += elements


def _summary(
    name: str, counts: Mapping[str, _Count], *, unmatched: tuple[str, ...]
) -> WeightChange:
    groups = tuple(
        GroupChange(
            group=group,
            elements=count.elements,
            changed_stored=count.changed_stored / max(1, count.elements),
            changed_cast=count.changed_cast / max(1, count.elements),
        )
        for group, count in sorted(counts.items())
    )
    elements = max(1, sum(count.elements for count in counts.values()))
    return WeightChange(
        name=name,
        groups=groups,
        changed_stored=sum(count.changed_stored for count in counts.values()) / elements,
        changed_cast=sum(count.changed_cast for count in counts.values()) / elements,
        unmatched=unmatched,
    )
