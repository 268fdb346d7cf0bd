"""From a parsed record to a `Carrier`: which fields there are, and what is wrong with one."""

import dataclasses
from collections.abc import Mapping
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
TOKEN_IDS = ("prompt_token_ids", "response_token_ids")


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
    given = {key: value for key, value in fields.items() if value is not None}
    for name in REQUIRED:
        if name not in given:
            raise Unusable("missing field", f"`{name}` is required")
    for name in TEXT:
        if name in given:
            _check_text(name, given[name])
    values: dict[str, Any] = {name: given[name] for name in TEXT if name in given}
    for name in TOKEN_IDS:
        if name in given:
            values[name] = _token_ids(name, given[name])
    if "messages" in given:
        values["messages"] = _messages(given["messages"])
    values |= {name: _number(name, given[name]) for name in NUMBERS if name in given}
    if "correct" in given:
        values["correct"] = _flag("correct", given["correct"])
    if "template" in given:
        values["template"] = _template(given["template"])
    values["extra"] = _extra(fields)
    carrier = Carrier(**values)
    _check_whole(carrier)
    return carrier


NUMBERS = ("temperature", "sampling_probability")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise Unusable("wrong type", f"`{name}` must be text, got {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Unusable("invalid text", f"`{name}` holds a lone surrogate") from error


def _token_ids(name: str, value: Any) -> tuple[int, ...]:
    listed = value if isinstance(value, list | tuple) else None
    if listed is None or not all(type(item) is int and 0 <= item < 2**31 for item in listed):
        raise Unusable("wrong type", f"`{name}` must be a list of token ids (integers >= 0)")
    return tuple(listed)


def _messages(value: Any) -> tuple[dict[str, Any], ...]:
    good = isinstance(value, list | tuple) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) for turn in value
    )
    if not good or not value:
        raise Unusable("wrong type", "`messages` must be a list of {role, content}")
    for turn in value:
        _check_text("messages.content", turn.get("content"))
    return tuple(dict(turn) for turn in value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unusable("wrong type", f"`{name}` must be a number, got {type(value).__name__}")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unusable("wrong type", f"`{name}` must be true, false or null, got {value!r:.40}")
    return value


def _template(value: Any) -> Template:
    if value not in list(Template):
        raise Unusable(
            "unknown template",
            f"`template` must be one of {', '.join(Template)}, got {value!r:.40}",
        )
    return Template(value)


def _extra(fields: Mapping[str, Any]) -> dict[str, Any]:
    nested = fields.get("extra")
    extra = dict(nested) if isinstance(nested, dict) else {}
    if nested is not None and not isinstance(nested, dict):
        extra["extra"] = nested
    return extra | {key: value for key, value in fields.items() if key not in (*KNOWN, "extra")}


def _check_whole(carrier: Carrier) -> None:
    """What must hold between fields."""
    if not carrier.carrier_id or not carrier.problem_id:
        raise Unusable("missing field", "`carrier_id` and `problem_id` must not be empty")
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
