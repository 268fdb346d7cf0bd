"""Chats and prompt + completion pairs: OpenAI-style JSON lines, ShareGPT, tables of hubs.

A record holds `messages` (or `conversations`), whose last turn is the response, or a `prompt`
beside a response under one of `RESPONSES`. `system` and `tools` beside a chat are part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probing.carriers.fields import Unusable
from probing.carriers.readers.formats import Convert, Fields, Made, RecordFormat, set_aside
from probing.carriers.readers.identity import is_plain
from probing.carriers.readers.rows import Row
from probing.carriers.readers.scales import grade_of
from probing.carriers.readers.sources import Source
from probing.carriers.readers.turns import Turn, options_taken, plain, turns
from probing.settings import Inputs

CHATS = ("messages", "conversations")
RESPONSES = ("response", "completion", "output", "generation")
"""Where a response stands beside a prompt, the first that is there."""
OTHER_RESPONSE = "response_beside"
"""Where what the record of a carrier has no place for is kept."""
SYSTEM = ("system", "developer")
"""Roles of whom a chat has one turn, the first."""
GOLD = ("gold", "target", "ground_truth", "reference_answer", "solution")


def _fits(fields: Fields) -> bool:
    return any(name in fields for name in CHATS) or (
        "prompt" in fields and any(name in fields for name in RESPONSES)
    )


def _opened(source: Source, inputs: Inputs) -> Convert:
    def convert(row: Row) -> Iterator[Made]:
        yield Made(chat_fields(row.fields, inputs))

    return convert


CHAT = RecordFormat(
    name="chat",
    keys="messages or conversations; or prompt with response, completion, output or generation",
    fits=_fits,
    opened=_opened,
)


def chat_fields(record: Fields, inputs: Inputs) -> dict[str, Any]:
    """Fields of the carrier of one chat; what is not of the record stays beside them.

    A chat that ends with the assistant's turn has its response there; a response that stands beside
    it too counts only where the settings name its column.

    Raises:
        Unusable: no response, or a turn that is not text.
    """
    fields = dict(record)
    chat = next((name for name in CHATS if fields.get(name)), None)
    asked = turns(chat, fields.pop(chat)) if chat is not None else []
    if isinstance(fields.get("prompt"), list | tuple):
        asked = [*turns("prompt", fields.pop("prompt")), *asked]
    if not fields.get("messages"):
        fields.pop("messages", None)
    ends = bool(asked) and asked[-1].role == "assistant" and "response" not in inputs.columns
    said = asked[-1:] if ends else _beside(fields, asked)
    before = plain([*(asked[:-1] if ends else asked), *said[:-1]], inputs.thinking_format)
    if before:
        before = [*_system(fields, before), *before]
    fields |= options_taken(fields)
    if ends and fields.get("response") is not None:
        fields[OTHER_RESPONSE] = fields["response"]
    if before:
        fields["messages"] = before
    fields["response"] = said[-1].text(inputs.thinking_format)
    graded = grade_of(fields)
    if graded is None and fields.get("correct") is not None:
        fields = set_aside(fields, "correct")
    fields["correct"] = graded
    if fields.get("gold") is None:
        fields["gold"] = next((fields[name] for name in GOLD if is_plain(fields.get(name))), None)
    return fields


def _beside(fields: dict[str, Any], asked: list[Turn]) -> list[Turn]:
    """The response that stands beside a prompt, taken out of the fields, and turns before it."""
    there = [name for name in RESPONSES if fields.get(name) is not None]
    if not there:
        last = f"the last turn is {asked[-1].role!r:.40}" if asked else "no turn, no response"
        raise Unusable("no response", f"a chat ends with the assistant's turn: {last}")
    # An empty one counts only where no other stands there.
    name = next((name for name in there if fields[name]), there[0])
    value = fields.pop(name)
    if isinstance(value, list | tuple) and value and isinstance(value[-1], Mapping):
        return turns(name, value)
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise Unusable("wrong type", f"`{name}` must be one text, got {type(value).__name__}")
    return [Turn("assistant", value)]


def _system(fields: dict[str, Any], before: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The turn of a system that stands beside a chat without one, taken out of the fields."""
    said = fields.get("system")
    if not isinstance(said, str) or not said or any(turn["role"] in SYSTEM for turn in before):
        return []
    del fields["system"]
    return [{"role": "system", "content": said}]
