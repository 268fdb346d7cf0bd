"""What a run is made from: digests, versions, and the manifest that holds them."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from probing.lexicon import Lexicon
from probing.positions.select import selector_names
from probing.scoring.models import Source
from probing.scoring.preparing import Prepared
from probing.scoring.weights import WeightChange
from probing.settings import RunSettings
from probing.store.manifest import Manifest
from probing.tokens.adapter import TokenizerAdapter

BLOCK_BYTES = 1 << 20
PACKAGES = (
    "ssd-probing",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "numpy",
    "numba",
)
"""Packages that can change a bit of a run."""


@dataclass(frozen=True)
class Identity:
    """What is known of a run before a model is loaded; equal for a run that can go on."""

    settings: RunSettings
    inputs: dict[str, Any]
    weights: dict[str, str]
    prepared: Prepared
    selectors: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What only loaded models tell.

    Attributes:
        vocabulary_size: width of the logits.
        watched_ids: ids that are always candidates.
        models: by name: dtype, attention, changed weights.
        versions: of the packages that ran.
    """

    vocabulary_size: int
    watched_ids: tuple[int, ...]
    models: Mapping[str, Mapping[str, Any]]
    versions: dict[str, str]


def identify(
    settings: RunSettings,
    *,
    sources: Sequence[Source],
    tokenizer: TokenizerAdapter,
    lexicon: Lexicon,
    prepared: Prepared,
) -> Identity:
    """Digest every input; reads each weights file once."""
    inputs = {
        "carriers": {path: _digest_of_place(Path(path)) for path in settings.carriers},
        "lexicon": {"digest": lexicon.digest, "groups": [asdict(g) for g in lexicon.entries]},
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size},
    }
    return Identity(
        settings=settings,
        inputs=inputs,
        weights={source.spec.name: source.files.fingerprint() for source in sources},
        prepared=prepared,
        selectors=selector_names(lexicon),
    )


def manifest_of(identity: Identity, facts: Facts) -> Manifest:
    """The manifest of a run with this identity, whose models told these facts."""
    return Manifest(
        settings=identity.settings,
        vocabulary_size=facts.vocabulary_size,
        selector_names=identity.selectors,
        watched_ids=facts.watched_ids,
        inputs=identity.inputs,
        models={
            name: {**facts.models.get(name, {}), "weights_sha256": digest}
            for name, digest in identity.weights.items()
        },
        versions=facts.versions,
        counts=identity.prepared.counts,
        skipped=identity.prepared.skipped,
        sample=identity.prepared.cells,
    )


def facts_of(manifest: Manifest) -> Facts:
    """The facts that a stored manifest holds."""
    return Facts(
        vocabulary_size=manifest.vocabulary_size,
        watched_ids=manifest.watched_ids,
        models=manifest.models,
        versions=manifest.versions,
    )


def model_facts(
    *, dtype: torch.dtype, attention: str, change: WeightChange | None
) -> dict[str, Any]:
    """What is stored of one loaded model; the baseline has no change."""
    facts: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), "attention": attention}
    if change is not None:
        facts["changed_weights"] = asdict(change)
    return facts


def installed_versions() -> dict[str, str]:
    """Versions of what can change a bit of a run."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _digest_of_place(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
