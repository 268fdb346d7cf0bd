"""The manifest: what a run was made from."""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from probing.carriers.record import Skipped
from probing.carriers.sampling import Cell
from probing.settings import RunSettings, as_json
from probing.store.unit import Measures, measures


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a run was made from: inputs, models, settings, versions. Never wall-clock facts.

    Dictionaries hold JSON values only. All of it is compared at resume.

    Attributes:
        settings: of the run. `out` is not stored, since a copy of a run is the same run: it reads
            back as the empty string.
        vocabulary_size: V, the number of logits in a row.
        selector_names: of the bits of `selectors`, lowest first.
        watched_ids: ids that are candidates everywhere.
        inputs: digests of carrier files, lexicon and tokenizer.
        models: by name: revision, content fingerprint of weights, dtype, attention, share of
            changed weights.
        versions: of the libraries that change a bit.
        counts: carriers read, graded, sampled, skipped.
        skipped: the records left out, with reasons.
        sample: what was wanted of each combination of the strata `settings.sampling.by`, available
            and taken; None in runs of versions that kept no such table.
    """

    settings: RunSettings
    vocabulary_size: int
    selector_names: tuple[str, ...]
    watched_ids: tuple[int, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    sample: tuple[Cell, ...] | None = None

    @property
    def model_names(self) -> tuple[str, ...]:
        """Baseline first, then the others: the `model` axis."""
        return (self.settings.baseline.name, *(other.name for other in self.settings.others))

    @property
    def measures(self) -> Measures:
        """The `measure` axis."""
        return measures(self.model_names)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the run."""
        settings = as_json(self.settings)
        del settings["out"]
        document: dict[str, Any] = {
            **asdict(self),
            "settings": settings,
            "skipped": [asdict(record) for record in self.skipped],
        }
        if self.sample is None:
            del document["sample"]
        # Through JSON, so that what is compared at resume is what a reader would see.
        plain: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
        return plain

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Manifest":
        """The inverse of `to_json`, with `settings.out` empty.

        Raises:
            pydantic.ValidationError: settings that this version does not know.
        """
        settings = json.dumps({**document["settings"], "out": ""})
        sample = document.get("sample")
        return cls(
            **{
                **document,
                "settings": TypeAdapter(RunSettings).validate_json(settings),
                "selector_names": tuple(document["selector_names"]),
                "watched_ids": tuple(document["watched_ids"]),
                "skipped": tuple(Skipped(**record) for record in document["skipped"]),
                "sample": None if sample is None else tuple(map(_cell, sample)),
            }
        )


def _cell(document: dict[str, Any]) -> Cell:
    return Cell(**{**document, "labels": tuple(document["labels"])})


def changes(stored: Manifest, now: Manifest) -> list[str]:
    """Where two manifests differ, as `differences`; what the stored one did not keep cannot."""
    if stored.sample is None:
        now = replace(now, sample=None)
    return differences(stored.to_json(), now.to_json())


def differences(stored: Any, now: Any, *, where: str = "") -> list[str]:
    """Where two JSON values differ, one line each: `settings.scoring.dtype: stored …, now …`."""
    if isinstance(stored, dict) and isinstance(now, dict):
        lines: list[str] = []
        for key in sorted(stored.keys() | now.keys()):
            below = f"{where}.{key}" if where else str(key)
            lines += differences(stored.get(key), now.get(key), where=below)
        return lines
    return [] if stored == now else [f"{where}: stored {_short(stored)}, now {_short(now)}"]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
