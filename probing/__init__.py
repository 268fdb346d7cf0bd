"""Probing: what fine-tuning did to a language model, token by token.

In Python: `open_run` and its methods, `score`, `read_carriers`; docs/python.md shows them. Nothing
is imported before its name is used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probing.api import OpenRun, open_run, score
    from probing.carriers.reading import read_carriers
    from probing.carriers.record import Carrier
    from probing.errors import OutsideContract, ProbingError, UsageFault
    from probing.run_file import load_run_file
    from probing.settings import (
        Grading,
        Inputs,
        ModelSpec,
        RunSettings,
        Sampling,
        Scoring,
        Selection,
        StoreLayout,
        TailGrid,
    )

    __version__: str

__all__ = [
    "Carrier",
    "Grading",
    "Inputs",
    "ModelSpec",
    "OpenRun",
    "OutsideContract",
    "ProbingError",
    "RunSettings",
    "Sampling",
    "Scoring",
    "Selection",
    "StoreLayout",
    "TailGrid",
    "UsageFault",
    "__version__",
    "load_run_file",
    "open_run",
    "read_carriers",
    "score",
]

_HOMES = {
    "Carrier": "carriers.record",
    "Grading": "settings",
    "Inputs": "settings",
    "ModelSpec": "settings",
    "OpenRun": "api",
    "OutsideContract": "errors",
    "ProbingError": "errors",
    "RunSettings": "settings",
    "Sampling": "settings",
    "Scoring": "settings",
    "Selection": "settings",
    "StoreLayout": "settings",
    "TailGrid": "settings",
    "UsageFault": "errors",
    "load_run_file": "run_file",
    "open_run": "api",
    "read_carriers": "carriers.reading",
    "score": "api",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    """A name of `__all__`, from its home; it is kept, so this is asked once."""
    if name == "__version__":
        value: Any = version(import_module("probing.vocabulary").DISTRIBUTION)
    elif name in _HOMES:
        value = getattr(import_module(f"probing.{_HOMES[name]}"), name)
    else:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'probing' has {known}, and no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
