"""From a parsed record to a `Carrier`: which fields there are, and what is wrong with one."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from probing.carriers.record import Carrier
from probing.vocabulary import Template

KNOWN = tuple(field.name for field in dataclasses.fields(Carrier) if field.name != "extra")
REQUIRED = ("carrier_id", "problem_id", "response", "generator")
TEXT = (
    *REQUIRED,
    "prompt",
    "gold",
    "answer",
    "finish_reason",
    "difficulty",
    "subject",
    "source",
)
NUMBERS = ("temperature", "sampling_probability")
TOKEN_IDS = ("prompt_token_ids", "response_token_ids")
DEEPEST = 100
"""Levels of nested lists and objects in a field; what is far deeper cannot be written again."""


class Unusable(ValueError):
    """A record that cannot be a carrier: `reason` is the kind of fault, `detail` the case.

    Raised inside carriers/ only; readers turn it into a `Skipped`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def carrier_from_fields(fields: Mapping[str, Any]) -> Carrier:
    """Build a carrier; fields that are not of the record are kept under `extra`.

    A field that is null counts as absent.

    Raises:
        Unusable: a field is missing, of the wrong type, or unusable text.
    """
    given = {name: fields[name] for name in KNOWN if fields.get(name) is not None}
    extra = _extra(fields)
    for name, value in (*given.items(), *extra.items()):
        # Token ids are thousands of integers, or a fault that their own check finds.
        if name not in TOKEN_IDS or name in extra:
            _check_writable(name, value)
    for name in REQUIRED:
        if name not in given:
            raise Unusable("missing field", f"`{name}` is required")
    values = {name: parse(name, given[name]) for name, parse in PARSERS.items() if name in given}
    carrier = Carrier(**values, extra=extra)
    _check_whole(carrier)
    return carrier


def _check_writable(name: str, value: Any) -> None:
    """Refuse what could be read but not written, shown or stored again, wherever it stands."""
    if fault := _fault_of_text(name):
        raise Unusable("invalid text", f"the name of field {name!r:.60} holds {fault}")
    if value is None or isinstance(value, int | float):
        return
    label = f"`{name:.60}`"
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str) and (fault := _fault_of_text(item)):
            raise Unusable("invalid text", f"{label} holds {fault}")
        if depth > DEEPEST:
            raise Unusable("bad JSON", f"{label} is nested deeper than {DEEPEST} levels")
        if isinstance(item, dict):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            waiting += [(part, depth + 1) for part in item]


def _fault_of_text(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "a lone surrogate, which cannot be UTF-8"
    return None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Unusable("wrong type", f"`{name}` must be text, got {type(value).__name__}")
    return value


def _token_ids(name: str, value: Any) -> tuple[int, ...]:
    listed = value if isinstance(value, list | tuple) else None
    if listed is None or not all(type(item) is int and 0 <= item < 2**31 for item in listed):
        raise Unusable("wrong type", f"`{name}` must be a list of token ids (integers >= 0)")
    return tuple(listed)


def _messages(name: str, value: Any) -> tuple[dict[str, Any], ...]:
    good = isinstance(value, list | tuple) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in value
    )
    if not good or not value:
        raise Unusable("wrong type", f"`{name}` must be a list of {{role, content}}")
    for turn in value:
        _text(f"{name}.content", turn.get("content"))
    return tuple(dict(turn) for turn in value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable("wrong type", f"`{name}` must be a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Unusable("wrong type", f"`{name}` must be a finite number, got {value!r:.40}")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unusable("wrong type", f"`{name}` must be true, false or null, got {value!r:.40}")
    return value


def _template(name: str, value: Any) -> Template:
    if value not in list(Template):
        raise Unusable(
            "unknown template",
            f"`{name}` must be one of {', '.join(Template)}, got {value!r:.40}",
        )
    return Template(value)


PARSERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(TEXT, _text),
    **dict.fromkeys(TOKEN_IDS, _token_ids),
    "messages": _messages,
    **dict.fromkeys(NUMBERS, _number),
    "correct": _flag,
    "template": _template,
}
"""Every field of the record but `extra`: what turns the value found into the record's."""


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    beside = {key: value for key, value in fields.items() if key not in (*KNOWN, "extra")}
    nested = fields.get("extra")
    if nested is None:
        return beside
    if not isinstance(nested, dict) or nested.keys() & beside.keys():
        # Merging would lose one of two fields of the same name.
        return beside | {"extra": nested}
    return nested | beside


def _check_whole(carrier: Carrier) -> None:
    """What must hold between fields."""
    for name in ("carrier_id", "problem_id", "generator"):
        if not getattr(carrier, name):
            raise Unusable("missing field", f"`{name}` must not be empty")
    with_ids = [getattr(carrier, name) is not None for name in TOKEN_IDS]
    if any(with_ids) and not all(with_ids):
        raise Unusable("ids on one side", "prompt_token_ids and response_token_ids come together")
    if not carrier.response or (all(with_ids) and not carrier.response_token_ids):
        raise Unusable("empty response", f"carrier {carrier.carrier_id!r:.60}")
    if all(with_ids) and not carrier.prompt_token_ids:
        raise Unusable("missing field", "prompt_token_ids must hold at least one id")
    if not all(with_ids) and carrier.prompt is None and carrier.messages is None:
        raise Unusable(
            "missing field", "one of `prompt`, `messages`, `prompt_token_ids` is required"
        )
    if not 0 < carrier.sampling_probability <= 1:
        raise Unusable("wrong type", "`sampling_probability` must be in (0, 1]")


def fields_of(carrier: Carrier) -> dict[str, Any]:
    """The record as plain JSON values: absent fields left out, `extra` flattened beside the rest.

    An extra field whose name the record has gained meanwhile stays nested under `extra`.
    """
    values = {name: getattr(carrier, name) for name in KNOWN}
    plain = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }
    clashing = {key: value for key, value in carrier.extra.items() if key in (*KNOWN, "extra")}
    if clashing:
        plain["extra"] = clashing
    return plain | {k: v for k, v in carrier.extra.items() if k not in clashing}
