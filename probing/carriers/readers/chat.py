"""Chats and prompt + completion pairs: OpenAI-style JSON lines, ShareGPT, tables of hubs.

A record holds `messages` (or `conversations`), whose last turn is the response, or a `prompt`
beside a response under one of `RESPONSES`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat
from probing.carriers.readers.rows import Row
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import Turn, plain, turns
from probing.settings import Inputs

CHATS = ("messages", "conversations")
RESPONSES = ("response", "completion", "output", "generation")
"""Where a response stands beside a prompt, the first that is there."""
CORRECT = ("correct", "is_correct", "score", "is_passed")
"""Where a grade stands: true, false, or a number that is 1 or 0; others are no grade."""
GOLD = ("gold", "target", "ground_truth", "reference_answer", "solution")


def _fits(fields: Fields) -> bool:
    return any(name in fields for name in CHATS) or (
        "prompt" in fields and any(name in fields for name in RESPONSES)
    )


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        yield Made(chat_fields(row.fields, thinking_format=inputs.thinking_format))

    return convert


CHAT = RecordFormat(
    name="chat",
    keys="messages or conversations; or prompt with response, completion, output or generation",
    fits=_fits,
    opened=_opened,
)


def chat_fields(record: Fields, *, thinking_format: str) -> dict[str, Any]:
    """Fields of the carrier of one chat; what is not of the record stays beside them.

    Raises:
        Unusable: no response, or a turn that is not text.
    """
    fields = dict(record)
    chat = next((name for name in CHATS if fields.get(name)), None)
    asked: list[Turn] = turns(chat, fields.pop(chat)) if chat is not None else []
    for name in CHATS:
        fields.pop(name, None)
    prompt = fields.get("prompt")
    if isinstance(prompt, list | tuple):
        asked = turns("prompt", fields.pop("prompt"))
    answered = _response(fields, asked, thinking_format)
    if answered.messages:
        fields["messages"] = answered.messages
    fields["response"] = answered.text
    fields["correct"] = grade_of(fields)
    if fields.get("gold") is None:
        fields["gold"] = next((fields[name] for name in GOLD if fields.get(name) is not None), None)
    if isinstance(fields["gold"], int | float) and not isinstance(fields["gold"], bool):
        fields["gold"] = str(fields["gold"])
    return fields


class _Answered:
    """The response, and what it answers."""

    def __init__(self, text: str, messages: list[dict[str, str]]) -> None:
        self.text, self.messages = text, messages


def _response(fields: dict[str, Any], asked: list[Turn], thinking_format: str) -> _Answered:
    beside = next((name for name in RESPONSES if fields.get(name)), None)
    if beside is None:
        if not asked or asked[-1].role != "assistant":
            last = f"the last turn is {asked[-1].role!r:.40}" if asked else "no turn, no response"
            raise Unusable("no response", f"a chat ends with the assistant's turn: {last}")
        text = asked[-1].text(thinking_format)
        return _Answered(text, plain(asked[:-1], thinking_format=thinking_format))
    value = fields.pop(beside)
    if isinstance(value, list | tuple) and value and isinstance(value[-1], Mapping):
        said = turns(beside, value)
        return _Answered(
            said[-1].text(thinking_format),
            plain([*asked, *said[:-1]], thinking_format=thinking_format),
        )
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise Unusable("wrong type", f"`{beside}` must be one text, got {type(value).__name__}")
    return _Answered(value, plain(asked, thinking_format=thinking_format))


def grade_of(fields: Fields) -> bool | None:
    """Right, wrong, or not graded, by the first field that says so."""
    for name in CORRECT:
        value = fields.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float) and value in (0, 1):
            return bool(value)
    return None
