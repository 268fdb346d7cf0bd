"""Model files on disk: where a checkpoint or adapter is, what it stores, its fingerprint."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from probing.errors import ModelFault

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
CODE_FILES = ("*.py",)
HASH_BLOCK_BYTES = 1 << 22
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

STORED_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Floating dtypes that a model can be scored in."""

OTHER_DTYPES: dict[str, torch.dtype] = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Dtypes of buffers that lie beside the weights."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder of safetensors files: a full model, or an adapter.

    Attributes:
        name: the model's name in the run, for messages.
        folder: where its files are.
        shards: the safetensors files, in name order.
    """

    name: str
    folder: Path
    shards: tuple[Path, ...]

    @cached_property
    def shard_of(self) -> Mapping[str, Path]:
        """The file that holds each tensor."""
        found: dict[str, Path] = {}
        for shard in self.shards:
            with _opened(shard, name=self.name) as file:
                found.update(dict.fromkeys(file.keys(), shard))
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, read from the headers alone."""
        found: dict[str, tuple[int, ...]] = {}
        for shard in self.shards:
            with _opened(shard, name=self.name) as file:
                for key in file.keys():  # noqa: SIM118 -- a safetensors handle does not iterate
                    found[key] = tuple(file.get_slice(key).get_shape())
        return found

    @contextmanager
    def opened(self) -> "Iterator[OpenTensors]":
        """All files of the checkpoint, open together for streaming."""
        yield OpenTensors(self)

    def stored_dtype(self) -> torch.dtype | None:
        """The floating dtype that most elements are stored in; None where it is none we know."""
        elements: Counter[str] = Counter()
        for shard in self.shards:
            with _opened(shard, name=self.name) as file:
                for key in file.keys():  # noqa: SIM118 -- a safetensors handle does not iterate
                    view = file.get_slice(key)
                    count = 1
                    for size in view.get_shape():
                        count *= size
                    elements[view.get_dtype()] += count
        return STORED_DTYPES.get(elements.most_common(1)[0][0]) if elements else None

    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of the safetensors files, streamed."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{shard.name}\0{shard.stat().st_size}\0".encode())
            with shard.open("rb") as file:
                while block := file.read(HASH_BLOCK_BYTES):
                    digest.update(block)
        return digest.hexdigest()


class OpenTensors:
    """Blocks of a checkpoint's tensors, read without loading a whole tensor.

    Files are read, not mapped: the pages of a mapped file count as the process's memory until it
    is unmapped, and comparing two checkpoints of 600 MB grew it by 840 MB.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._headers: dict[Path, _Header] = {}

    def blocks(self, key: str, *, block_elements: int) -> Iterator[torch.Tensor]:
        """The tensor's elements in stored order, `block_elements` at a time, shape (element,).

        Each block is read over the one before it.

        Raises:
            ModelFault: The file is cut short, or holds a dtype that torch does not have.
        """
        shard = self._checkpoint.shard_of[key]
        if shard not in self._headers:
            self._headers[shard] = _read_header(shard)
        header = self._headers[shard]
        stored, (start, stop) = header.tensors[key]["dtype"], header.tensors[key]["data_offsets"]
        dtype = STORED_DTYPES.get(stored) or OTHER_DTYPES.get(stored)
        if dtype is None:
            known = ", ".join((*STORED_DTYPES, *OTHER_DTYPES))
            raise ModelFault(
                f"model {self._checkpoint.name!r}: tensors must be of dtype {known}; {key} in "
                f"{shard} is {stored}; save it again with `model.to(torch.bfloat16)`"
            )
        with shard.open("rb") as file:
            file.seek(header.data_start + start)
            step = block_elements * dtype.itemsize
            buffer = memoryview(bytearray(min(step, stop - start)))
            for at in range(start, stop, step):
                block = buffer[: stop - at]
                if file.readinto(block) != len(block):
                    raise ModelFault(
                        f"model {self._checkpoint.name!r}: {shard} ends inside {key}; copy it again"
                    )
                yield torch.frombuffer(block, dtype=dtype)


@dataclass(frozen=True)
class _Header:
    """Where the tensors of one safetensors file are: 8 bytes of length, JSON, then the data."""

    data_start: int
    tensors: Mapping[str, Mapping[str, Any]]


def _read_header(shard: Path) -> _Header:
    """Of a file that `shard_of` has opened before, so that it is known to be well formed."""
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return _Header(data_start=8 + length, tensors=json.loads(file.read(length)))


def resolve_model(
    name: str, path: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> Checkpoint:
    """Find a full checkpoint.

    Args:
        name: The model's name in the run.
        path: A local folder, or a hub id `owner/name`.
        revision: Of the hub id.
        trust_remote_code: Also fetch code files from the hub.

    Raises:
        ModelFault: Nothing there, no config.json, or no safetensors.
    """
    folder = _folder(name, path, revision=revision, code=trust_remote_code)
    if not (folder / "config.json").is_file():
        raise ModelFault(
            f"model {name!r} needs a folder with config.json and safetensors; {folder} has no "
            f"config.json{_adapter_hint(folder)}"
        )
    if (folder / INDEX_FILE).is_file():
        shards = _indexed_shards(name, folder)
    elif (folder / WEIGHTS_FILE).is_file():
        shards = (folder / WEIGHTS_FILE,)
    else:
        raise ModelFault(
            f"model {name!r} needs weights in safetensors ({WEIGHTS_FILE} or {INDEX_FILE}); "
            f"{folder} has {_weights_there(folder)}; save it again with "
            "`model.save_pretrained(folder)`"
        )
    return Checkpoint(name=name, folder=folder, shards=shards)


def resolve_adapter(name: str, path: str, *, revision: str | None = None) -> Checkpoint:
    """Find a LoRA adapter.

    Raises:
        ModelFault: Nothing there, no adapter_config.json, no safetensors, or not a LoRA.
    """
    folder = _folder(name, path, revision=revision, code=False)
    for needed in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / needed).is_file():
            raise ModelFault(
                f"adapter {name!r} needs a folder with {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS}; "
                f"{folder} has {_weights_there(folder)} and no {needed}; save it again with "
                "`peft_model.save_pretrained(folder)`, or use `path` for a full checkpoint"
            )
    checkpoint = Checkpoint(name=name, folder=folder, shards=(folder / ADAPTER_WEIGHTS,))
    kind = str(read_adapter_config(checkpoint).get("peft_type", "")).upper()
    if kind != "LORA":
        raise ModelFault(
            f"adapter {name!r} must be a LoRA (peft_type LORA), got {kind or 'none'!r}; merge it "
            "with `merge_and_unload()` and give the merged folder as `path`"
        )
    return checkpoint


def read_adapter_config(adapter: Checkpoint) -> dict[str, Any]:
    """The adapter's configuration as stored.

    Raises:
        ModelFault: It is not a JSON object.
    """
    path = adapter.folder / ADAPTER_CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFault(f"adapter {adapter.name!r}: {path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ModelFault(
            f"adapter {adapter.name!r}: {path} must hold a JSON object, got {document!r:.60}"
        )
    return document


@contextmanager
def _opened(shard: Path, *, name: str) -> Iterator[Any]:
    try:
        with safe_open(shard, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelFault(
            f"model {name!r}: {shard} is not a readable safetensors file: {error}; copy it again"
        ) from error


def _folder(name: str, path: str, *, revision: str | None, code: bool) -> Path:
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(path) or folder.exists():
        what = "a file" if folder.exists() else "nothing"
        raise ModelFault(
            f"model {name!r} must be a folder or a hub id `owner/name`; {what} is at {path!r}; "
            f"try `ls {folder.parent}`"
        )
    try:
        patterns = [*HUB_FILES, *(CODE_FILES if code else ())]
        return Path(snapshot_download(path, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise ModelFault(
            f"model {name!r}: no folder {path!r} here, and hub id {path!r}{at} could not be "
            f"fetched ({type(error).__name__}); check the path, or run `hf download {path}` where "
            "there is a network"
        ) from error


def _indexed_shards(name: str, folder: Path) -> tuple[Path, ...]:
    try:
        index = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        shards = tuple(folder / shard for shard in sorted(set(index["weight_map"].values())))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFault(f"model {name!r}: {folder / INDEX_FILE} is malformed: {error}") from error
    for shard in shards:
        if not shard.is_file():
            raise ModelFault(
                f"model {name!r}: {INDEX_FILE} names {shard.name}, which is absent from {folder}; "
                "copy or download it again"
            )
    return shards


def _weights_there(folder: Path) -> str:
    suffixes = (".bin", ".pt", ".pth", ".gguf", ".safetensors")
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in suffixes)
    return ", ".join(names[:3]) or "no weights"


def _adapter_hint(folder: Path) -> str:
    if (folder / ADAPTER_CONFIG).is_file():
        return "; it is an adapter: give it as `adapter`, not `path`"
    return ""
