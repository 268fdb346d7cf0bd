"""What a record of another tool does not say: ids of carrier and problem, and who wrote it."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.settings import Inputs
from probing.vocabulary import Template

GENERATORS = ("generator", "model", "model_name")
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
    than `chat` take one prompt of text: the only user message will do.

    Args:
        fields: of the record.
        place: file and line, and which response of it.
        inputs: how logs are read.

    Raises:
        Unusable: nobody says who wrote it, or the template needs one prompt of text.
    """
    whole = _of_other_types({name: value for name, value in fields.items() if value is not None})
    whole.setdefault("carrier_id", place)
    logged = (whole[name] for name in GENERATORS if is_plain(whole.get(name)))
    generator = next((name for name in logged if name != ""), inputs.generator)
    if generator is None:
        raise Unusable("missing field", NOBODY)
    named = str(generator)
    whole["generator"] = inputs.names.get(named, named)
    if whole["generator"] != named:
        whole.setdefault("logged_generator", named)
    if inputs.template is not None:
        whole["template"] = inputs.template.value
    _one_prompt(whole)
    logged = (whole[name] for name in PROBLEMS if is_plain(whole.get(name)))
    problem = next((name for name in logged if name != ""), None)
    whole["problem_id"] = _same_prompt(whole) if problem is None else str(problem)
    return whole


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
            whole[name] = str(value)
        else:
            beside[name] = value
    given = whole.get("extra", {})
    beside = {**given, **beside} if isinstance(given, dict) else {"extra": given, **beside}
    return {**whole, "extra": beside} if beside else whole


def _one_prompt(whole: dict[str, Any]) -> None:
    """Messages that a template other than `chat` cannot take become the prompt."""
    messages = whole.get("messages")
    if whole.get("template", Template.CHAT.value) == Template.CHAT.value or messages is None:
        return
    if whole.get("prompt") is not None:
        return
    only = only_message(messages)
    if only is None:
        raise Unusable(
            "no prompt",
            f"template {whole['template']!s:.40} takes one prompt of text, or one message of the "
            "user",
        )
    whole["prompt"] = only
    del whole["messages"]


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
