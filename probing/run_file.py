"""Run files: TOML in, settings out, and what is wrong with a file in one message."""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from probing.errors import UsageFault
from probing.settings import Inputs, ModelSpec, RunSettings, require

Settings = TypeVar("Settings")


def load_run_file(path: Path) -> RunSettings:
    """Read a run file (see examples/run.toml).

    Relative paths inside it are taken from the folder that `probing` is started in.

    Raises:
        UsageFault: absent or malformed file, unknown key, wrong type, or missing baseline.
    """
    return run_settings(parse_run_file(path), where=str(path))


def parse_run_file(path: Path) -> dict[str, Any]:
    """The tables of a run file, not yet checked.

    Raises:
        UsageFault: the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(
            f"run file {path} cannot be read: {error}; see examples/run.toml"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageFault(f"run file {path} is not valid TOML: {error}") from error


def run_settings(document: dict[str, Any], *, where: str) -> RunSettings:
    """Turn a parsed run file into settings; `where` names the file in messages.

    A model's name is its table's name: `[baseline]` may set `name`, `[others.ssd]` is `ssd`.
    A path may be a `Path`, and `carriers` one path alone.

    Raises:
        UsageFault: unknown key, wrong type, value out of its range, or missing baseline.
    """
    named = dict(document)
    others = document.get("others")
    if isinstance(document.get("baseline"), dict):
        named["baseline"] = {"name": "baseline", **document["baseline"]}
    if isinstance(others, dict):
        named["others"] = [
            {"name": name, **table} for name, table in others.items() if isinstance(table, dict)
        ]
    if isinstance(alone := document.get("carriers"), str | os.PathLike):
        named["carriers"] = [alone]
    return _validated(RunSettings, named, where=where)


def inputs_of(given: Inputs | Mapping[str, Any]) -> Inputs:
    """How logs are read, checked as a run file is, from settings or from its table `[inputs]`.

    Raises:
        UsageFault: it is neither; unknown key, wrong type, or value out of its range.
    """
    rule = "inputs takes Inputs, or a dict as [inputs] of a run file"
    require(isinstance(given, Inputs | Mapping), rule, given)
    document = asdict(given) if isinstance(given, Inputs) else dict(given)
    return _validated(Inputs, document, where="inputs")


def _validated(kind: type[Settings], document: dict[str, Any], *, where: str) -> Settings:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(document, default=os.fspath))
    except ValidationError as error:
        faults = "; ".join(_fault_text(fault, kind) for fault in error.errors())
        raise UsageFault(f"{where}: {faults}; see examples/run.toml") from error
    except UsageFault as error:
        raise UsageFault(f"{where}: {error}; see examples/run.toml") from error
    except TypeError as error:
        rule = "values are texts, numbers, true or false, lists and tables"
        raise UsageFault(f"{where}: {rule}: {error}; see examples/run.toml") from error


def _fault_text(fault: ErrorDetails, kind: type) -> str:
    """Where, what, and what was got; of an unknown key, those that are known there."""
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":  # What was got is everything around it.
        return f"{place}: {fault['msg']}"
    text = f"{place}: {fault['msg']}, got {_short(fault['input'])}"
    if fault["type"] == "unexpected_keyword_argument":
        text += f" (known here: {', '.join(_known_keys(fault['loc'][:-1], kind))})"
    return text


def _known_keys(place: tuple[int | str, ...], kind: type) -> list[str]:
    """The keys of the table at this place of settings."""
    here: Any = kind
    for part in place:
        # Entries of `others` are models, each by its name.
        found = ModelSpec if isinstance(part, int) else get_type_hints(here).get(part)
        here = found if is_dataclass(found) else ModelSpec
    return [each.name for each in fields(here)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
