"""What models need in memory, and which of them are held at once."""

import contextlib
import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import psutil
import torch
from transformers import AutoConfig

from probing.errors import ModelFault
from probing.scoring.models import Source, resolve_device, weight_groups
from probing.scoring.weights import OUTPUT_NAME, UNUSED_PREFIXES
from probing.settings import Scoring

WORKING_BYTES = 250 << 20
"""What scoring takes beside models, heads and cache: activations, logits, one unit's arrays.

Measured, not computed: see docs/performance.md.
"""


CPU = torch.device("cpu")

KEPT_KERNELS = 64
"""A model has about five shapes of weights; a unit a few batches."""


@dataclass(frozen=True)
class Need:
    """Bytes that the models sharing one set of weights need.

    Attributes:
        members: places of the models in the run: a checkpoint, with the adapters over it.
        weights: of the checkpoint and its adapters, in the dtype that runs.
        head: of float32 copies of the output embedding, where the weights are not float32.
        cache: keys and values of the longest carrier; 0 where none runs in chunks.
    """

    members: tuple[int, ...]
    weights: int
    head: int
    cache: int

    @property
    def alone(self) -> int:
        """Everything, were it the only one."""
        return self.weights + self.head + self.cache + WORKING_BYTES


@dataclass(frozen=True)
class MemoryPlan:
    """Which models are held at once, where, and why.

    Attributes:
        mode: `together`, `split` or `sequential`.
        groups: models that share weights, by their places in the run.
        devices: one for each group.
        reason: one line for the log.
    """

    mode: str
    groups: tuple[tuple[int, ...], ...]
    devices: tuple[torch.device, ...]
    reason: str


def needs(
    sources: Sequence[Source], *, dtype: torch.dtype, longest: int, scoring: Scoring
) -> tuple[Need, ...]:
    """What each set of weights needs, computed from configurations and file headers.

    Args:
        sources: of every model, baseline first.
        dtype: that backbones run in.
        longest: tokens of the longest carrier up to its last chosen position.
        scoring: its chunk length.
    """
    chunked = longest > scoring.chunk_tokens
    found = []
    for members in weight_groups(sources):
        base = sources[members[0]]
        shapes = [sources[member].files.shapes() for member in members]
        elements = sum(
            prod(shape)
            for one in shapes
            for key, shape in one.items()
            if not key.startswith(UNUSED_PREFIXES)
        )
        cache = _cache_bytes(base, longest=longest, dtype=dtype, trust=scoring.trust_remote_code)
        copies = 0 if dtype == torch.float32 else len(members)
        found.append(
            Need(
                members=members,
                weights=elements * dtype.itemsize,
                head=copies * 4 * _output_elements(base),
                cache=cache if chunked else 0,
            )
        )
    return tuple(found)


def _output_elements(source: Source) -> int:
    shapes = source.files.shapes()
    names = [name for name in shapes if name.endswith(OUTPUT_NAME)]
    names += [name for name in shapes if name.endswith(("embed_tokens.weight", "wte.weight"))]
    return prod(shapes[names[0]]) if names else 0


def _cache_bytes(source: Source, *, longest: int, dtype: torch.dtype, trust: bool) -> int:
    """Keys and values of every attention layer; a sliding window bounds its layers' share."""
    config = AutoConfig.from_pretrained(
        source.files.folder, local_files_only=True, trust_remote_code=trust
    )
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or longest
    tokens = {"full_attention": longest, "sliding_attention": min(longest, window)}
    return int(2 * heads * size * dtype.itemsize * sum(tokens.get(kind, 0) for kind in kinds))


def free_bytes(device: torch.device) -> int:
    """What can be allocated there now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def bound_kernel_cache() -> None:
    """Let oneDNN keep fewer compiled kernels, where nobody said how many.

    Every shape of a batch has its own; its default of 1,024 takes about 250 MB in a long run.
    Counts only before the first of them is made.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_KERNELS))


def give_back(device: torch.device = CPU) -> None:
    """Return freed memory to the system, on a CPU whose C library is asked for that (glibc).

    Else the holes that activations and a growing key-value cache leave behind stay resident, and
    the peak grows with the length and the number of carriers.
    """
    if device.type != CPU.type:
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def plan_memory(found: Sequence[Need], *, scoring: Scoring) -> MemoryPlan:
    """The wanted mode, or the first that fits.

    Raises:
        ModelFault: `split` without a device for each set of weights, or an unknown device.
    """
    device = resolve_device(scoring.device)
    groups = tuple(need.members for need in found)
    together = sum(n.weights + n.head for n in found) + max(n.cache for n in found) + WORKING_BYTES
    free = free_bytes(device)
    text = f"all models together need {size_text(together)}, {device} has {size_text(free)} free"
    mode: str = scoring.memory_mode
    if mode == "auto":
        mode = "together" if len(found) == 1 or together <= free else _apart(found, scoring)
    devices = _split_devices(len(found), scoring) if mode == "split" else (device,) * len(found)
    details = "; ".join(
        f"weights {size_text(n.weights)}, float32 head {size_text(n.head)}, "
        f"cache {size_text(n.cache)}"
        for n in found
    )
    return MemoryPlan(mode, groups, devices, f"memory mode {mode}: {text} ({details})")


def _apart(found: Sequence[Need], scoring: Scoring) -> str:
    """`split` where every set of weights has a GPU that holds it, else `sequential`."""
    if len(scoring.devices or range(torch.cuda.device_count())) < len(found):
        return "sequential"
    devices = _split_devices(len(found), scoring)
    fits = all(n.alone <= free_bytes(d) for n, d in zip(found, devices, strict=True))
    return "split" if fits else "sequential"


def _split_devices(count: int, scoring: Scoring) -> tuple[torch.device, ...]:
    names = scoring.devices or tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    if len(names) < count:
        raise ModelFault(
            f"memory_mode = 'split' needs a device for each of {count} sets of weights, got "
            f"{', '.join(names) or 'none'}; name them as `devices` under [scoring], or set "
            "memory_mode = 'sequential'"
        )
    return tuple(resolve_device(name) for name in names[:count])


def size_text(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
