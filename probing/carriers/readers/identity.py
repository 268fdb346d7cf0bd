"""What a record of another tool does not say: ids of carrier and problem, and who wrote it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.settings import Inputs
from probing.vocabulary import Template

GENERATORS = ("generator", "model", "model_name")
PROBLEMS = ("problem_id", "question_id", "task_id")
SAME_PROMPT = "prompt:"
"""Begins the id of a problem that is told by its prompt alone."""


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
    whole = {name: value for name, value in fields.items() if value is not None}
    whole.setdefault("carrier_id", place)
    generator = next((whole.get(name) for name in GENERATORS if whole.get(name)), inputs.generator)
    if generator is None:
        raise Unusable("missing field", "nobody says which model wrote it: give --generator NAME")
    named = str(generator)
    whole["generator"] = inputs.names.get(named, named)
    if whole["generator"] != named:
        whole.setdefault("logged_generator", named)
    if inputs.template is not None:
        whole["template"] = inputs.template.value
    _one_prompt(whole)
    problem = next((whole[name] for name in PROBLEMS if whole.get(name) is not None), None)
    whole["problem_id"] = _same_prompt(whole) if problem is None else str(problem)
    return whole


def _one_prompt(whole: dict[str, Any]) -> None:
    """Messages that a template other than `chat` cannot take become the prompt."""
    messages = whole.get("messages")
    if whole.get("template", Template.CHAT.value) == Template.CHAT.value or messages is None:
        return
    if whole.get("prompt") is not None:
        return
    if len(messages) != 1 or messages[0]["role"] != "user":
        roles = ", ".join(str(each["role"]) for each in messages)
        raise Unusable(
            "no prompt", f"template {whole['template']} takes one prompt of text, got {roles:.80}"
        )
    whole["prompt"] = messages[0]["content"]
    del whole["messages"]


def _same_prompt(whole: Mapping[str, Any]) -> str:
    asked = next(
        (whole[name] for name in ("messages", "prompt", "prompt_token_ids") if name in whole), None
    )
    text = json.dumps(asked, sort_keys=True, default=str)
    return (
        f"{SAME_PROMPT}{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"
    )
