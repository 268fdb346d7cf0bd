"""What a record of another tool does not say: ids of carrier and problem, and who wrote it."""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import set_aside
from probing.settings import Inputs
from probing.vocabulary import Template

GENERATORS = ("generator", "model", "model_name")
LOGGED = "logged_generator"
"""Where the name that a log has for a generator is kept when it has another here."""
PROBLEMS = ("problem_id", "question_id", "task_id")
NOBODY = (
    "nobody says which model wrote it: give --generator NAME, or in a run file "
    'generator = "NAME" under [inputs]'
)
SAME_PROMPT = "prompt:"
"""Begins the id of a problem that is told by its prompt alone."""


def is_plain(value: Any) -> bool:
    """Whether it is a text or a number, which says the same as its digits."""
    return is_text(value) or is_number(value)


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def digits(value: Any) -> str:
    """A text as it is, a number as its digits; a whole one alike as integer and with a point.

    Tables make fractions of all integers of a column in which one is missing.

    Examples:
        >>> digits(7.0), digits(7), digits(7.5), digits("7.0")
        ('7', '7', '7.5', '7.0')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _read_number(value: Any) -> float | None:
    """The number that a text spells: tables have decimals, which are their digits here."""
    try:
        number = float(value) if is_text(value) else math.nan
    except ValueError:
        return None
    return number if is_number(number) else None


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


SAID_OF_IT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("carrier_id", "problem_id", "generator"), is_text),
    **dict.fromkeys(("gold", "answer", "finish_reason"), is_text),
    **dict.fromkeys(("difficulty", "subject", "source"), is_text),
    "temperature": is_number,
    "correct": _is_flag,
}
"""What other logs may have under names of the record, and what it has to be there."""


def completed(fields: Mapping[str, Any], *, place: str, inputs: Inputs) -> dict[str, Any]:
    """The fields of a carrier, with what is missing made: the same for the same file and settings.

    `carrier_id` is the place in the file; `problem_id` a digest of the prompt, so that responses of
    several models to one prompt belong together; `generator` what the settings say. Templates other
    than `chat` take one prompt of text: see `one_prompt`.

    Args:
        fields: of the record.
        place: file and line, and which response of it.
        inputs: how logs are read.

    Raises:
        Unusable: nobody says who wrote it, or the template needs one prompt of text.
    """
    whole = {name: value for name, value in fields.items() if value is not None}
    finish = whole.get("finish_reason")
    # SGLang writes {"type": "length", "length": 9}.
    if isinstance(finish, Mapping) and is_text(finish.get("type")):
        whole = {**set_aside(whole, "finish_reason"), "finish_reason": finish["type"]}
    whole = _of_other_types(whole)
    whole.setdefault("carrier_id", place)
    generator = logged_generator(whole, inputs)
    if generator is None:
        raise Unusable("missing field", NOBODY)
    whole = named(whole, generator, inputs)
    if inputs.template is not None:
        whole["template"] = inputs.template.value
    one_prompt(whole)
    logged = (whole[name] for name in PROBLEMS if is_plain(whole.get(name)))
    problem = next((name for name in logged if name != ""), None)
    whole["problem_id"] = _same_prompt(whole) if problem is None else digits(problem)
    return whole


def logged_generator(fields: Mapping[str, Any], inputs: Inputs) -> str | None:
    """Who wrote a response: as its log says or, where that is silent, as the settings do."""
    logged = (fields[name] for name in GENERATORS if is_plain(fields.get(name)))
    found = next((name for name in logged if name != ""), inputs.generator)
    return None if found is None else digits(found)


def named(whole: Mapping[str, Any], logged: str, inputs: Inputs) -> dict[str, Any]:
    """The record with the name that the settings have for its generator; the logged one stays."""
    name = inputs.names.get(logged, logged)
    beside = whole.get("extra")
    known = LOGGED in whole or (isinstance(beside, Mapping) and LOGGED in beside)
    kept = {LOGGED: logged} if name != logged and not known else {}
    return {**whole, **kept, "generator": name}


def _of_other_types(whole: dict[str, Any]) -> dict[str, Any]:
    """Fields that are called like those of the record, and mean something else in another log.

    A number becomes its digits where a text is wanted; what is neither stays beside the carrier.
    """
    beside: dict[str, Any] = {}
    for name, is_fit in SAID_OF_IT.items():
        value = whole.get(name)
        if value is None or is_fit(value):
            continue
        del whole[name]
        if is_fit is is_text and is_plain(value):
            whole[name] = digits(value)
        elif is_fit is is_number and (number := _read_number(value)) is not None:
            whole[name] = number
        else:
            beside[name] = value
    given = whole.get("extra", {})
    beside = {**given, **beside} if isinstance(given, dict) else {"extra": given, **beside}
    return {**whole, "extra": beside} if beside else whole


def one_prompt(whole: dict[str, Any]) -> None:
    """Messages that a template other than `chat` cannot take become the prompt.

    A prompt that stands beside them has to say the same: with `raw` it is the only message, with
    `already_applied` it holds the text of each.

    Raises:
        Unusable: there are several messages and no such prompt.
    """
    messages, prompt = whole.get("messages"), whole.get("prompt")
    template = whole.get("template", Template.CHAT.value)
    if template == Template.CHAT.value or messages is None:
        return
    if template == Template.ALREADY_APPLIED.value and isinstance(prompt, str):
        if _holds(prompt, messages):
            return
        only = None
    else:
        only = only_message(messages)
    if only is None or prompt not in (None, only):
        raise Unusable(
            "no prompt",
            f"template {template!s:.40} takes one prompt of text, or one message of the user; "
            "messages beside a prompt must say the same",
        )
    whole["prompt"] = only
    del whole["messages"]


def _holds(prompt: str, messages: Any) -> bool:
    """Whether a text holds that of every message, white space at their ends aside."""
    if not isinstance(messages, list | tuple):
        return False
    texts = [each.get("content") if isinstance(each, Mapping) else None for each in messages]
    return all(isinstance(text, str) and text.strip() in prompt for text in texts)


def only_message(messages: Any) -> str | None:
    """The text of a chat that is one message of the user; None of any other."""
    if not isinstance(messages, list | tuple) or len(messages) != 1:
        return None
    first = messages[0]
    if not isinstance(first, Mapping) or first.get("role") != "user":
        return None
    content = first.get("content")
    return content if isinstance(content, str) else None


def _same_prompt(whole: Mapping[str, Any]) -> str:
    """By all of the chat, or by the text where that is all it says, however it was logged."""
    asked = whole.get("messages")
    only = only_message(asked)
    if asked is None or only is not None:
        text = whole.get("prompt") if only is None else only
        asked = whole.get("prompt_token_ids") if text is None else text
    text = json.dumps(asked, sort_keys=True, default=str)
    return f"{SAME_PROMPT}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Generators:
    """Who wrote the responses of some logs, and which names of the settings none of them has."""

    MOST = 8

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._unseen = set(inputs.names)
        self._logged: list[str] = []

    def add(self, fields: Mapping[str, Any]) -> None:
        """One more record, before its generator has another name."""
        if not self._unseen:
            return
        logged = logged_generator(fields, self._inputs)
        if logged is None:
            return
        self._unseen.discard(logged)
        if logged not in self._logged and len(self._logged) <= self.MOST:
            self._logged.append(logged)

    def notes(self) -> list[str]:
        """One sentence for each name that nothing has."""
        return [
            f"no response is by {name!r:.80}, which --name calls {self._inputs.names[name]!r:.80}; "
            f"logged are {', '.join(self._logged[: self.MOST])}"
            + (" and more" if len(self._logged) > self.MOST else "")
            for name in sorted(self._unseen)
        ]
